// What passes from stage to stage: any number of tensors of any type and shape, with and without a
// gradient, of sizes that change from microbatch to microbatch and from step to step; stages that
// are frozen, or have nothing to train, or whose input wants no gradient.
#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/runtime/executor.h"
#include "headrace/runtime/stage.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/lower.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

using torch::Tensor;

constexpr std::int64_t kRows = 2, kWidth = 6;
constexpr int kMicrobatches = 8;

// A layer with one matrix; `forward` is given it.
class Simple : public Layer {
 public:
  using Forward = Tensors (*)(const Tensors&, const Tensor&, const Context&);

  Simple(const std::string& name, Forward work, bool trained)
      : Layer(make_parameters({{name, {kWidth, kWidth}, 0, 0.5}}, {.seed = 7})), work_(work) {
    parameter(0).requires_grad_(trained);
  }
  Tensors forward(const Tensors& inputs, const Context& context) override {
    return work_(inputs, parameter(0), context);
  }
  bool is_foreign() const override { return true; }

 private:
  Forward work_;
};

class Without : public Layer {  // nothing to train
 public:
  Without() : Layer({}) {}
  Tensors forward(const Tensors& inputs, const Context&) override {
    Tensors outputs = inputs;
    outputs[0] = inputs[0].tanh();
    return outputs;
  }
};

// ids → hidden, a mask, lengths, a factor in double precision, and nothing in between.
Tensors begin(const Tensors& inputs, const Tensor& weight, const Context&) {
  const Tensor& ids = inputs[0];
  const Tensor hidden = torch::one_hot(ids, kWidth).to(torch::kFloat32).matmul(weight);
  return {hidden,
          ids.ne(0),
          ids.sum(1).to(torch::kInt32),
          Tensor(),
          torch::full({}, 0.5, torch::kFloat64),
          torch::empty({0, 3})};
}

// One more tensor, with a gradient, goes on beside the rest.
Tensors branch(const Tensors& inputs, const Tensor& weight, const Context&) {
  Tensors outputs = inputs;
  outputs[0] = inputs[0].matmul(weight).masked_fill(inputs[1].logical_not().unsqueeze(-1), 0);
  outputs[3] = inputs[0] * 2;
  return outputs;
}

// All come together in one.
Tensors join(const Tensors& inputs, const Tensor& weight, const Context&) {
  const Tensor lengths = inputs[2].to(torch::kFloat32).view({-1, 1, 1});
  return {(inputs[0] + inputs[3].matmul(weight)) * inputs[4].to(torch::kFloat32) + lengths};
}

Tensors end(const Tensors& inputs, const Tensor& weight, const Context& context) {
  return {inputs[0].matmul(weight).pow(2).sum() * context.loss_scale};
}

std::vector<std::unique_ptr<Layer>> layers_of(const std::vector<bool>& trained) {
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(std::make_unique<Simple>("begin", begin, trained[0]));
  layers.push_back(std::make_unique<Simple>("branch", branch, trained[1]));
  layers.push_back(std::make_unique<Without>());
  layers.push_back(std::make_unique<Simple>("join", join, trained[2]));
  layers.push_back(std::make_unique<Simple>("end", end, trained[3]));
  return layers;
}

// Lengths differ between microbatches and between steps.
Tensor ids_of(int step, int microbatch) {
  torch::manual_seed(100 * step + microbatch);
  return torch::randint(0, kWidth, {kRows, 1 + (3 * microbatch + step) % 5});
}

struct Outcome {
  std::vector<double> losses;
  std::map<std::string, Tensor> gradients;
  bool operator==(const Outcome& other) const {
    return losses == other.losses &&
           std::ranges::equal(gradients, other.gradients, [](const auto& a, const auto& b) {
             return a.first == b.first && a.second.defined() == b.second.defined() &&
                    (!a.second.defined() || torch::equal(a.second, b.second));
           });
  }
};

void note(Outcome& outcome, const std::vector<Parameter>& parameters) {
  for (const Parameter& parameter : parameters)
    outcome.gradients[parameter.spec.name] = parameter.value.grad();
}

Outcome plain(const std::vector<bool>& trained) {
  const auto layers = layers_of(trained);
  Outcome outcome;
  for (int step = 0; step < 2; ++step)
    for (int m = 0; m < kMicrobatches; ++m) {
      Tensors values = {ids_of(step, m)};
      Context context;
      context.loss_scale = 0.1;
      for (const auto& layer : layers) values = layer->forward(values, context);
      if (values[0].requires_grad()) values[0].backward();
      outcome.losses.push_back(values[0].item<double>());
    }
  for (const auto& layer : layers) note(outcome, layer->parameters());
  return outcome;
}

Outcome piped(const std::vector<bool>& trained,
              const std::string& name,
              int ranks,
              bool recompute) {
  const Schedule schedule = lower(generate(name, {.ranks = ranks, .microbatches = kMicrobatches}));
  const int stages = schedule.placement.stages();
  Outcome outcome;
  std::mutex mutex;
  run_ranks(ranks, [&](Transport& transport) {
    std::vector<std::unique_ptr<Stage>> mine;
    std::vector<Stage*> pointers;
    for (const int s : schedule.placement.stages_of(transport.rank())) {
      auto all = layers_of(trained);
      const auto count = static_cast<int>(all.size());
      std::vector<std::unique_ptr<Layer>> own;
      for (int i = s * count / stages; i < (s + 1) * count / stages; ++i)
        own.push_back(std::move(all[static_cast<std::size_t>(i)]));
      mine.push_back(
          std::make_unique<Stage>(s, std::move(own), recompute ? Recompute::All : Recompute::None));
      pointers.push_back(mine.back().get());
    }
    Executor executor(transport, schedule.placement, pointers);
    for (int step = 0; step < 2; ++step) {
      Feed feed;
      feed.step = step;
      feed.inputs = [&](int m) { return Tensors{ids_of(step, m)}; };
      feed.loss_scale = [](int) { return 0.1; };
      const Losses losses = executor.run(schedule, feed);
      const std::lock_guard lock(mutex);
      for (const auto& [microbatch, loss] : losses.loss) outcome.losses.push_back(loss);
    }
    const std::lock_guard lock(mutex);
    for (const auto& stage : mine)
      for (const auto& layer : stage->layers()) note(outcome, layer->parameters());
  });
  return outcome;
}

class Boundaries : public testing::TestWithParam<std::tuple<std::string, int, bool>> {};

TEST_P(Boundaries, CarryEverything) {
  torch::set_num_threads(1);
  const auto& [schedule, ranks, recompute] = GetParam();
  const std::vector<std::vector<bool>> cases = {
      {true, true, true, true},    {false, true, true, true},   {false, false, true, true},
      {true, false, false, true},  {false, false, false, true}, {true, true, true, false},
      {false, false, false, false}};
  for (const std::vector<bool>& trained : cases)
    EXPECT_TRUE(piped(trained, schedule, ranks, recompute) == plain(trained))
        << testing::PrintToString(trained);
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         Boundaries,
                         testing::Combine(testing::Values("gpipe", "1f1b", "zb-h1"),
                                          testing::Values(1, 2, 5),
                                          testing::Bool()));

INSTANTIATE_TEST_SUITE_P(Vs,
                         Boundaries,
                         testing::Combine(testing::Values("interleaved", "zb-v"),
                                          testing::Values(2),
                                          testing::Bool()));

}  // namespace
}  // namespace headrace
