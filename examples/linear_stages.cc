// What a pipeline is for, measured: 100 layers of Linear(1000, 1000) in 10 stages of 10, trained by
// SGD on random batches of 128, and the time against one device and against the formula.
//
//   linear_stages [iterations=100] [layers=100] [stages=10] [width=1000]
//
// With M microbatches P stages take T = (M + P - 1)/M · (L/P) · t, where t is what one layer takes
// for a whole batch. That wants a core a stage: with fewer the stages take turns. So the time that
// the stages would take side by side is simulated from what each was measured to compute.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include <torch/torch.h>

#include "headrace/pipe.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/simulate/simulate.h"

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int argument(int argc, char** argv, int index, int standard) {
  return index < argc ? std::max(1, std::atoi(argv[index])) : standard;
}

}  // namespace

int main(int argc, char** argv) {
  const int iterations = argument(argc, argv, 1, 100);
  const int layers = argument(argc, argv, 2, 100);
  const int stages = argument(argc, argv, 3, 10);
  const int width = argument(argc, argv, 4, 1000);
  constexpr int kBatch = 128, kMicrobatches = 8;

  torch::manual_seed(1);
  torch::nn::Sequential model;
  for (int i = 0; i < layers; ++i) model->push_back(torch::nn::Linear(width, width));
  std::vector<int> balance(static_cast<std::size_t>(stages), layers / stages);
  balance.back() += layers % stages;
  headrace::Pipe pipe(model, {.balance = balance, .microbatches = kMicrobatches});
  torch::optim::SGD optimizer(pipe.parameters(), 0.01);

  std::printf("%d layers of Linear(%d, %d), %d stages, batches of %d in %d microbatches\n", layers,
              width, width, stages, kBatch, kMicrobatches);
  std::vector<double> forward(balance.size()), backward(balance.size());
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < iterations; ++i) {
    const torch::Tensor input = torch::randn({kBatch, width});
    const torch::Tensor target = torch::randn({kBatch, width});
    optimizer.zero_grad();
    const double loss = pipe.step(input, target, [](const auto& output, const auto& wanted) {
      return torch::mse_loss(output, wanted);
    });
    optimizer.step();
    if (i % std::max(1, iterations / 10) == 0 || i + 1 == iterations)
      std::printf("iteration %3d  training loss %.6f\n", i + 1, loss);
    for (const auto& rank : pipe.timeline().ranks)
      for (const headrace::Event& event : rank) {
        auto& times = event.action.kind == headrace::Kind::Forward ? forward : backward;
        if (headrace::is_compute(event.action.kind))
          times[static_cast<std::size_t>(event.action.stage)] +=
              event.end - headrace::work_begin(event);
      }
  }
  const double piped = seconds_since(start) / iterations;

  // One device: the same microbatches through the whole model.
  const int repeats = std::min(iterations, 3);
  const auto alone = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) {
    optimizer.zero_grad();
    for (const torch::Tensor& part : torch::randn({kBatch, width}).chunk(kMicrobatches))
      (torch::mse_loss(model->forward(part), torch::zeros_like(part)) / kMicrobatches).backward();
    optimizer.step();
  }
  const double one = seconds_since(alone) / repeats;

  std::printf("\nstage  forward ms  backward ms   (a batch)\n");
  for (std::size_t s = 0; s < balance.size(); ++s)
    std::printf("%5zu  %10.2f  %11.2f\n", s, 1e3 * forward[s] / iterations,
                1e3 * backward[s] / iterations);
  std::printf("\none device: %.1f ms a batch; %d stages on %u cores: %.1f ms\n", 1e3 * one, stages,
              std::thread::hardware_concurrency(), 1e3 * piped);

  // With a core a stage, by simulation of the same schedule.
  std::printf("\nforward alone, t = 1 s a layer: T = (M + P - 1)/M · (L/P) · t\n");
  std::printf("   M     formula s   simulated s\n");
  for (const int microbatches : {1, 4, 8, 32}) {
    const double layer = 1.0 / microbatches;
    const double formula =
        (microbatches + stages - 1.0) / microbatches * layers / static_cast<double>(stages);
    headrace::Costs costs;
    costs.forward = {layer * layers / static_cast<double>(stages)};
    const headrace::Schedule forwards =
        headrace::forward_only(headrace::linear_placement(stages), microbatches);
    std::printf("%4d  %12.2f  %12.2f\n", microbatches, formula,
                headrace::simulate_totals(forwards, costs).makespan);
  }
  return 0;
}
