// Where gradients of one stage overflow in fp16, no stage updates: weights and the optimizer's
// state are afterwards those of a run that never had the step.
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/base/keyed.h"
#include "headrace/model/transformer.h"
#include "headrace/runtime/pipeline.h"
#include "headrace/train/loss_scale.h"
#include "headrace/train/optimizer.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

using torch::Tensor;

constexpr int kRanks = 4, kMicrobatches = 6, kBadStep = 3, kSteps = 6;

enum class Bad { Overflows, IsLeftOut };

std::map<std::string, Tensor> weights_after(const std::string& schedule,
                                            double start_scale,
                                            int bad_stage,
                                            Bad bad) {
  const TransformerConfig model{
      .layers = 4, .width = 32, .heads = 4, .context = 8, .vocabulary = 64};
  const Plan plan = make_plan(transformer_layers(model), {.schedule = schedule, .ranks = kRanks});
  TrainConfig config;
  config.precision = "fp16";
  config.loss_scale = start_scale;
  std::map<std::string, Tensor> weights;
  std::mutex mutex;
  run_ranks(plan.placement.ranks, [&](Transport& transport) {
    Pipeline pipeline(transformer(model), plan, transport,
                      {.seed = 1, .precision = torch::kFloat16});
    const Weights& own = pipeline.weights();
    Optimizer optimizer(OptimizerConfig(), pipeline.to_update().values);
    LossScale scale(config);
    for (int step = 0; step < kSteps; ++step) {
      if (step == kBadStep && bad == Bad::IsLeftOut) {
        scale.after_step(true);
        continue;
      }
      const auto tokens = [step](int m) {
        auto generator = at::detail::createCPUGenerator(keyed(2, step, m));
        return torch::randint(0, 64, {2, 8}, generator, torch::kInt64);
      };
      StepInput input{
          .step = step, .microbatches = kMicrobatches, .inputs = tokens, .targets = tokens};
      input.before_action = [&](const Action& action) {
        if (step != kBadStep || action.stage != bad_stage || action.microbatch != kMicrobatches / 2)
          return;
        for (const auto& stage : pipeline.stages())
          if (stage->index() == bad_stage)
            stage->weights().newest()[0][0].grad().view(-1)[0] =
                std::numeric_limits<float>::infinity();
      };
      const StepResult result = pipeline.train(input, {.normaliser = 1.0 / (kMicrobatches * 2 * 8),
                                                       .clip = 1,
                                                       .backward_scale = scale.value()});
      const ToUpdate update = pipeline.to_update();
      EXPECT_EQ(result.finite, step != kBadStep) << "rank " << transport.rank();
      if (result.finite) optimizer.step(1e-2, update.values, update.gradients);
      scale.after_step(!result.finite);
    }
    EXPECT_EQ(scale.value(), start_scale / 2) << "rank " << transport.rank();
    const std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < own.size(); ++i) weights.emplace(own.name(i), own.value(i).clone());
  });
  return weights;
}

class Overflow : public testing::TestWithParam<std::string> {};

TEST_P(Overflow, OfOneStageLeavesTheStepOutOnAll) {
  torch::set_num_threads(1);
  for (const double scale : {1024.0, 1.0}) {  // at 1, too, there is still one to lower
    const auto expected = weights_after(GetParam(), scale, 0, Bad::IsLeftOut);
    for (const int stage : {0, kRanks - 1}) {
      const auto actual = weights_after(GetParam(), scale, stage, Bad::Overflows);
      ASSERT_EQ(actual.size(), expected.size());
      for (const auto& [name, value] : expected)
        EXPECT_TRUE(torch::equal(actual.at(name), value))
            << name << ", stage " << stage << ", scale " << scale;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Schedules, Overflow, testing::Values("1f1b", "zb-h1", "zb-v"), [](const auto& of) {
      return of.param == "1f1b" ? "one_f_one_b" : of.param == "zb-h1" ? "zb_h1" : "zb_v";
    });

}  // namespace
}  // namespace headrace
