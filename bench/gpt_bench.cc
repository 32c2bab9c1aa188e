// Steps of a GPT through the library, timed: what bench/pipeline.py runs beside PyTorch's
// pipelining.
//
//   gpt_bench --size large --schedule 1f1b      two processes, one thread each
//   gpt_bench --size large --alone              one process, no pipeline: two of them at once are
//   the limit
//
// Prints one JSON line: {"tokens_per_second": …, "step_seconds": …, "microbatches": …, "makespan":
// …, "simulated": …, "cuts": […]}: medians over the steps; the schedule's own part of a step, and
// what the simulator gives for it at the mean costs that were measured; and the first layers of the
// later stages.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <torch/types.h>

#include "headrace/base/keyed.h"
#include "headrace/base/text.h"
#include "headrace/launch/launch.h"
#include "headrace/launch/worker.h"
#include "headrace/model/transformer.h"
#include "headrace/runtime/pipeline.h"
#include "headrace/simulate/simulate.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/tensor/memory.h"
#include "headrace/timeline/account.h"
#include "headrace/train/optimizer.h"
#include "headrace/transport/all_gather.h"
#include "headrace/transport/c10d/c10d.h"
#include "headrace/transport/local.h"
#include "headrace/transport/rendezvous/rendezvous.h"

namespace headrace {
namespace {

struct Options {
  std::string size = "large";
  std::string schedule = "1f1b";
  bool alone = false;
  int steps = 6;
  int microbatches = 0;
  int cut = -1;
};

struct Size {
  TransformerConfig model;
  int microbatch;
  int microbatches;
};

Size size_of(const Options& options) {
  Size size;
  if (options.size == "tiny") {
    size = {{.layers = 4,
             .width = 16,
             .heads = 2,
             .context = 8,
             .vocabulary = 64,
             .tied = false,
             .dropout = 0},
            1,
            64};
  } else {
    size = {{.layers = 8,
             .width = 384,
             .heads = 6,
             .context = 256,
             .vocabulary = 8192,
             .tied = false,
             .dropout = 0},
            4,
            8};
  }
  if (options.microbatches > 0) size.microbatches = options.microbatches;
  return size;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

// What the actions of the timed steps cost, in the mean of each kind and stage. Sending what an
// action gives, and taking in a message that is already here, are work of the rank's, as the
// action.
class MeasuredCosts {
 public:
  explicit MeasuredCosts(int stages) : numbers_(3 * 2 * static_cast<std::size_t>(stages) + 2) {}

  void add(const std::vector<Event>& events) {
    for (const Event& event : events) {
      const Kind what = event.action.kind;
      if (!has_microbatch(what)) continue;
      const bool forward =
          what == Kind::Forward || what == Kind::SendForward || what == Kind::RecvForward;
      const std::size_t kind = forward ? 0 : what == Kind::BackwardWeight ? 2 : 1;
      const std::size_t at = 2 * (3 * static_cast<std::size_t>(event.action.stage) + kind);
      const Spent spent = spent_on(event);
      numbers_[at] += spent.work + (spent.wait > 0 ? 0 : spent.transfer);
      numbers_[at + 1] += is_compute(what) ? 1 : 0;
      if (spent.wait > 0) {
        numbers_[numbers_.size() - 2] += spent.transfer;
        numbers_[numbers_.size() - 1] += 1;
      }
    }
  }

  // Over all ranks.
  Costs gather(Transport& transport) const {
    std::vector<double> sums(numbers_.size());
    for (const std::vector<double>& theirs : all_gather(transport, numbers_, 0))
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += theirs[i];
    const auto mean = [&](std::size_t at) {
      return sums[at + 1] > 0 ? sums[at] / sums[at + 1] : 0;
    };
    Costs costs;
    costs.forward.clear();
    costs.backward_input.clear();
    costs.backward_weight.clear();
    for (std::size_t at = 0; at + 6 < sums.size(); at += 6) {
      costs.forward.push_back(mean(at));
      costs.backward_input.push_back(mean(at + 2));
      costs.backward_weight.push_back(mean(at + 4));
    }
    costs.latency = mean(sums.size() - 2);
    return costs;
  }

 private:
  std::vector<double> numbers_;  // sum and count for each stage's F, B or I, W; then of transfers
};

void run(const Options& options, Transport& transport) {
  const Size size = size_of(options);
  const std::vector<LayerSpec> model = transformer(size.model);
  PlanWish wish = {.schedule = options.schedule, .ranks = transport.size()};
  if (options.cut > 0 && transport.size() == 2)
    wish.cut.split = {model[static_cast<std::size_t>(options.cut)].name};
  Pipeline pipeline(model, make_plan(layers_of(model), wish), transport, {.seed = 1});
  Optimizer optimizer(OptimizerConfig(), pipeline.to_update().values);
  const auto tokens = [&](const char* what, int microbatch) {
    auto generator = at::detail::createCPUGenerator(keyed(1, what, microbatch));
    return torch::randint(0, size.model.vocabulary, {size.microbatch, size.model.context},
                          generator, torch::kInt64);
  };
  std::vector<torch::Tensor> inputs, targets;
  for (int m = 0; m < size.microbatches; ++m) {
    inputs.push_back(tokens("inputs", m));
    targets.push_back(tokens("targets", m));
  }
  const std::int64_t tokens_a_step =
      std::int64_t{size.microbatch} * size.model.context * size.microbatches;
  std::vector<double> seconds, makespans;
  MeasuredCosts measured(pipeline.plan().stages());
  constexpr int kWarmUp = 2;
  for (int step = 0; step < kWarmUp + options.steps; ++step) {
    const auto start = std::chrono::steady_clock::now();
    const StepResult result =
        pipeline.train({.step = step,
                        .microbatches = size.microbatches,
                        .inputs = [&](int m) { return inputs[static_cast<std::size_t>(m)]; },
                        .targets = [&](int m) { return targets[static_cast<std::size_t>(m)]; }},
                       {.normaliser = 1.0 / static_cast<double>(tokens_a_step)});
    const ToUpdate update = pipeline.to_update();
    optimizer.step(1e-3, update.values, update.gradients);
    if (step < kWarmUp) continue;
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    makespans.push_back(result.makespan);
    measured.add(pipeline.events());
  }
  const Costs costs = measured.gather(transport);
  if (transport.rank() != 0) return;
  const Schedule schedule = schedule_of(pipeline.plan(), size.microbatches, Pass::Train);
  std::vector<std::string> cuts;
  for (const int start : pipeline.plan().starts)
    if (start > 0) cuts.push_back(std::to_string(start));
  std::cout << R"({"tokens_per_second": )" << static_cast<double>(tokens_a_step) / median(seconds)
            << R"(, "step_seconds": )" << median(seconds) << R"(, "microbatches": )"
            << size.microbatches << R"(, "makespan": )" << median(makespans) << R"(, "simulated": )"
            << simulate_totals(schedule, costs).makespan << R"(, "cuts": [)"
            << join_text(cuts, ", ") << "]}" << std::endl;
}

int bench(const Options& options, const std::vector<std::string>& arguments) {
  bind_to_launcher();
  const std::optional<Rendezvous> place = rendezvous_from_environment();
  if (!place && !options.alone) {
    const Listening listening = listen_on_free_port();
    return launch({.workers = 2,
                   .arguments = arguments,
                   .port = listening.port,
                   .listen_fd = listening.fd,
                   .threads = 1});
  }
  torch::set_num_threads(1);
  install_memory_accounts();
  const std::unique_ptr<Transport> transport =
      place ? c10d_transport(*place, 60) : std::move(local_transports(1)[0]);
  run(options, *transport);
  return 0;
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
  headrace::Options options;
  CLI::App program("Times steps of a GPT over pipeline stages", "gpt_bench");
  program.add_option("--size", options.size, "large or tiny")
      ->check(CLI::IsMember({"large", "tiny"}));
  program.add_option("--schedule", options.schedule, "schedule");
  program.add_option("--steps", options.steps, "steps timed, after 2 to warm up");
  program.add_option("--microbatches", options.microbatches, "microbatches a step");
  program.add_option("--cut", options.cut, "first layer of the second stage (default: balanced)");
  program.add_flag("--alone", options.alone, "the whole model in this process");
  CLI11_PARSE(program, argc, argv);
  try {
    return headrace::bench(options, {argv, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "error: " << headrace::text_of(error) << "\n";
    return 1;
  }
}
