// From a model's layers and a wish to a plan, and from that to a schedule, all without torch.
#include "headrace/plan/plan.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/plan/memory.h"
#include "headrace/plan/stage_costs.h"
#include "headrace/plan/transformer.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/generators/replicate.h"
#include "headrace/schedule/lower.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

const TransformerConfig kModel{
    .layers = 4, .width = 32, .heads = 4, .context = 16, .vocabulary = 97, .tied = false};

Plan plan_of(const PlanWish& wish) {
  return make_plan(transformer_layers(kModel), wish);
}

std::string refusal_of(const PlanWish& wish, int microbatches = 8) {
  try {
    schedule_of(plan_of(wish), microbatches, Pass::Train);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(GptLayers, AreTenOfFourBlocks) {
  const std::vector<LayerInfo> layers = transformer_layers(kModel);
  ASSERT_EQ(layers.size(), 10U);
  EXPECT_EQ(layers.front().name, "embedding");
  EXPECT_EQ(layers[1].name, "blocks.0.attention");
  EXPECT_EQ(layers.back().name, "head");
  // Two embeddings, four blocks of 12·w² + 13·w, the last norm and the head's matrix.
  EXPECT_EQ(parameter_count(layers),
            97 * 32 + 16 * 32 + 4 * (12 * 32 * 32 + 13 * 32) + 2 * 32 + 97 * 32);
}

TEST(Plan, EveryNamedScheduleIsProvedAndLowered) {
  for (const Generator& generator : named_schedules()) {
    if (generator.name == "seq1f1b") continue;
    SCOPED_TRACE(generator.name);
    const Plan plan = plan_of({.schedule = generator.name, .microbatches = 8, .ranks = 2});
    EXPECT_EQ(plan.stages(), 2 * plan.source.stages_per_rank());
    EXPECT_EQ(plan.end(plan.stages() - 1), 10);
    EXPECT_THAT(plan.recompute, Each(Recompute::None));
    const Schedule training = schedule_of(plan, 8, Pass::Train);
    EXPECT_TRUE(is_lowered(training));
    EXPECT_EQ(training.placement, plan.placement);
    EXPECT_TRUE(validate(training).violations.empty());
    const Schedule evaluation = schedule_of(plan, 3, Pass::Evaluate);
    EXPECT_EQ(evaluation.microbatches, 3);
    EXPECT_EQ(evaluation.placement, plan.placement);
  }
}

TEST(Plan, AFileIsPlannedAsItStands) {
  const auto file = std::filesystem::path(testing::TempDir()) / "mine.csv";
  std::ofstream(file) << to_csv(generate("zb-v", {.ranks = 2, .microbatches = 4}));
  const Plan plan = plan_of({.schedule = file.string(), .ranks = 2});
  EXPECT_EQ(plan.stages(), 4);
  EXPECT_EQ(to_csv(schedule_of(plan, 4, Pass::Train)),
            to_csv(lower(generate("zb-v", {.ranks = 2, .microbatches = 4}))));
  EXPECT_THAT(refusal_of({.schedule = file.string(), .ranks = 2}, 6),
              AllOf(StartsWith("schedule '"), HasSubstr("is for 4 microbatches")));
  EXPECT_THAT(refusal_of({.schedule = file.string(), .ranks = 3}),
              AllOf(StartsWith("schedule '"), HasSubstr("is for 2 ranks, and ranks is 3")));
  EXPECT_THAT(refusal_of({.schedule = file.string(), .ranks = 2, .replicas = {2}}),
              StartsWith("replicas is given with the file"));
  std::ofstream(file) << "0F0,0B1\n";
  EXPECT_THAT(refusal_of({.schedule = file.string(), .ranks = 1}),
              AllOf(StartsWith("schedule: "), HasSubstr("mine.csv")));
}

TEST(Plan, ReplicasArePlaced) {
  const Plan plan = plan_of({.schedule = "1f1b", .ranks = 2, .replicas = {3, 1}});
  EXPECT_THAT(plan.placement.owners, ElementsAre(ElementsAre(0, 1, 2), ElementsAre(3)));
  EXPECT_EQ(to_csv(schedule_of(plan, 6, Pass::Train)),
            to_csv(lower(replicate("1f1b", {.ranks = 2, .microbatches = 6}, {3, 1}))));
}

TEST(Plan, RefusalsBeginWithTheFieldTheyAreAbout) {
  EXPECT_THAT(refusal_of({.ranks = 0}), StartsWith("ranks is 0"));
  EXPECT_THAT(refusal_of({.schedule = "1f1n"}), HasSubstr("did you mean '1f1b'"));
  EXPECT_THAT(refusal_of({.ranks = 11}), HasSubstr("10 layers but there are 11 stages"));
  EXPECT_THAT(refusal_of({.ranks = 2, .replicas = {0}}), StartsWith("replicas holds 0"));
  EXPECT_THAT(refusal_of({.ranks = 2, .cut = {.balance = {1, 2}, .split = {}}}),
              StartsWith("balance [1, 2] omits"));
  EXPECT_THAT(refusal_of({.ranks = 2, .cut = {.balance = {}, .split = {"embedding"}}}),
              StartsWith("split repeats embedding"));
  EXPECT_THAT(refusal_of({.ranks = 2, .recompute = std::vector{2}}),
              StartsWith("recompute names stage 2"));
  EXPECT_THAT(refusal_of({.schedule = "auto", .microbatches = 8, .ranks = 2, .replicas = {2}}),
              StartsWith("schedule 'auto' is searched for one pipeline"));
  EXPECT_THAT(refusal_of({.schedule = "auto", .ranks = 2}), StartsWith("microbatches is 0"));
  EXPECT_THAT(refusal_of({.schedule = "seq1f1b", .ranks = 2}), HasSubstr("splits sequences"));
  EXPECT_THAT(refusal_of({.schedule = "interleaved", .ranks = 4}, 9), HasSubstr("8 and 10"));
}

TEST(Plan, RecomputesWhatIsWished) {
  EXPECT_THAT(plan_of({.ranks = 3, .recompute = std::vector{0, 2}}).recompute,
              ElementsAre(Recompute::All, Recompute::None, Recompute::All));
  EXPECT_THAT(plan_of({.ranks = 3, .recompute = Recompute::Attention}).recompute,
              Each(Recompute::Attention));
}

// Two equal stages of a model without ends: each figure from the formula in words.
TEST(PlanMemory, IsWeightsAndWhatTheScheduleHolds) {
  LayerInfo layer;
  layer.parameters = {{.name = "w", .shape = {10, 10}}};
  layer.cost = {.flops = 1, .moved_bytes = 0, .boundary_bytes = 40};
  layer.memory = {.floats = 100, .products = 0, .working = 7};
  std::vector<LayerInfo> layers(2, layer);
  layers[0].name = "a";
  layers[1].name = "b";
  layers[1].parameters[0].name = "v";
  const Plan plan = make_plan(layers, {.schedule = "1f1b", .ranks = 2});
  EXPECT_THAT(plan.share, ElementsAre(0.5, 0.5));
  // 100 numbers each of 4 bytes: a weight, a gradient and 8 bytes of state; three messages of 40
  // bytes; 400 bytes for each microbatch under way, of which rank 0 holds two; 28 in passing.
  EXPECT_THAT(predict_memory(plan, schedule_of(plan, 8, Pass::Train), {}),
              ElementsAre(1600 + 120 + 2 * 400 + 28, 1600 + 120 + 400 + 28));
  const Costs costs = stage_costs(plan);
  EXPECT_THAT(costs.forward, ElementsAre(1, 1));
  EXPECT_THAT(costs.memory_forward, ElementsAre(400, 400));
  const Plan again =
      make_plan(layers, {.schedule = "1f1b", .ranks = 2, .recompute = Recompute::All});
  EXPECT_THAT(stage_costs(again).backward_input, ElementsAre(2, 2));
  EXPECT_THAT(stage_costs(again).memory_forward, ElementsAre(0, 40));
}

}  // namespace
}  // namespace headrace
