// What is measured is what is simulated: ranks that are threads, stages that do nothing but sleep,
// and the share of the time in which they do nothing. Sleeping needs no core, so that four ranks
// are at work at once on any machine.
//
// The only test that a clock decides. Sleeps are long beside a scheduler's delays, which can only
// add to what is measured; a machine busy with other things gets more than one try.
#include <chrono>
#include <cmath>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/runtime/pipeline.h"
#include "headrace/simulate/simulate.h"
#include "headrace/timeline/metrics.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr int kRanks = 4, kMicrobatches = 8, kTries = 5;
constexpr double kNear = 0.03;
// A forward, and each half of a backward.
constexpr double kSleepMs = 10;

void sleep() {
  std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(kSleepMs));
}

class SleepFunction : public torch::autograd::Function<SleepFunction> {
 public:
  static Variable forward(AutogradContext* context,
                          const Variable& x,
                          const Variable& /*weight: what makes the output want a gradient*/,
                          WeightGradients* sink) {
    context->saved_data["sink"] = reinterpret_cast<std::int64_t>(sink);
    sleep();
    return x.clone();
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    sleep();
    add_weight_gradient(reinterpret_cast<WeightGradients*>(context->saved_data["sink"].toInt()),
                        sleep);
    return {gradients[0], Variable(), Variable()};
  }
};

// One number in, the same number out, which serves the last stage as the loss.
class Sleeper : public Layer {
 public:
  Tensors forward(const Tensors& inputs, const Context&, const StageContext& stage) override {
    return {SleepFunction::apply(inputs[0], stage.weights[0], stage.weight_gradients)};
  }
};

std::vector<LayerSpec> sleepers() {
  std::vector<LayerSpec> model;
  for (int i = 0; i < kRanks; ++i) {
    const std::string name = "sleeper." + std::to_string(i);
    LayerSpec& layer = model.emplace_back();
    layer.name = name;
    layer.parameters = {{name + ".weight", {1}, 1, 0}};
    layer.cost.flops = 1;
    layer.build = [] { return std::make_unique<Sleeper>(); };
  }
  return model;
}

// The second step: the first has what is done but once.
Timeline measured(const Plan& plan) {
  Timeline timeline;
  timeline.measured = true;
  timeline.ranks.resize(kRanks);
  std::mutex mutex;
  run_ranks(kRanks, [&](Transport& transport) {
    Pipeline pipeline(sleepers(), plan, transport, {});
    StepInput input;
    input.microbatches = kMicrobatches;
    input.inputs = [](int) { return torch::ones({}, torch::kFloat64); };
    for (input.step = 0; input.step < 2; ++input.step) pipeline.train(input, {});
    const std::lock_guard lock(mutex);
    timeline.ranks[static_cast<std::size_t>(transport.rank())] = pipeline.events();
  });
  return timeline;
}

double simulated_bubble(const Plan& plan) {
  Costs costs;
  costs.forward = costs.backward_input = costs.backward_weight = {kSleepMs};
  return measure(simulate(schedule_of(plan, kMicrobatches, Pass::Train), costs).timeline).bubble;
}

class MeasuredBubble : public testing::TestWithParam<std::string> {};

TEST_P(MeasuredBubble, IsTheSimulatedOne) {
  torch::set_num_threads(1);
  const Plan plan = make_plan(layers_of(sleepers()), {.schedule = GetParam(), .ranks = kRanks});
  const double simulated = simulated_bubble(plan);
  if (GetParam() != "zb-h1") {
    EXPECT_NEAR(simulated, (kRanks - 1.0) / (kMicrobatches + kRanks - 1), 1e-9);
  }
  std::vector<double> bubbles;
  do {
    bubbles.push_back(measure(measured(plan)).bubble);
  } while (std::abs(bubbles.back() - simulated) > kNear && bubbles.size() < kTries);
  RecordProperty("bubbles", testing::PrintToString(bubbles));
  EXPECT_NEAR(bubbles.back(), simulated, kNear)
      << "bubbles of all tries: " << testing::PrintToString(bubbles);
}

INSTANTIATE_TEST_SUITE_P(Schedules,
                         MeasuredBubble,
                         testing::Values("gpipe", "1f1b", "zb-h1"),
                         [](const auto& param_info) {
                           return param_info.param == "zb-h1" ? std::string("split_backward")
                                                              : "s" + param_info.param;
                         });

}  // namespace
}  // namespace headrace
