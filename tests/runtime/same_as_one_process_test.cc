// The promise of the project: whatever the number of stages and the schedule, losses, every
// gradient, the norm and the updated weights are those of the same model in one process over the
// same microbatches, to the bit.
#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/plan/plan.h"
#include "headrace/plan/source.h"
#include "tests/runtime/one_process.h"
#include "tests/schedule_lists.h"

namespace headrace {
namespace {

using Parameters = std::tuple<std::string, int, int, bool, double>;

class SameAsOneProcess : public ::testing::TestWithParam<Parameters> {};

TEST_P(SameAsOneProcess, ToTheBit) {
  torch::set_num_threads(1);
  const auto& [schedule, ranks, microbatches, tied, dropout] = GetParam();
  for (const double clip : {0.0, 0.05}) {
    const Case c{microbatches, tied, dropout, clip};
    const Outcome expected = one_process(c);
    ASSERT_GT(expected.norms[0], 0.05) << "clipping would not be active";
    for (const bool recompute : {false, true}) {
      SCOPED_TRACE(testing::Message() << "clip " << clip << ", recompute " << recompute);
      expect_same(pipelined(c, schedule, ranks, recompute), expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         SameAsOneProcess,
                         ::testing::Combine(::testing::Values("gpipe", "1f1b"),
                                            ::testing::Values(1, 2, 3, 4),
                                            ::testing::Values(1, 2, 3, 8),
                                            ::testing::Bool(),
                                            ::testing::Values(0.0, 0.1)),
                         [](const auto& param_info) {
                           return "s" + std::get<0>(param_info.param) + "_P" +
                                  std::to_string(std::get<1>(param_info.param)) + "_M" +
                                  std::to_string(std::get<2>(param_info.param)) +
                                  (std::get<3>(param_info.param) ? "_tied" : "_untied") +
                                  (std::get<4>(param_info.param) > 0 ? "_dropout" : "");
                         });

// Every synchronous schedule with one copy of the weights, split backwards among them.
class EverySchedule : public ::testing::TestWithParam<std::tuple<std::string, int, int>> {};

TEST_P(EverySchedule, ToTheBit) {
  torch::set_num_threads(1);
  const auto& [schedule, ranks, microbatches] = GetParam();
  const Case c{microbatches, true, 0.1, 0.05};
  expect_same(pipelined(c, schedule, ranks, false), one_process(c));
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         EverySchedule,
                         ::testing::Combine(::testing::ValuesIn(schedules_of_one_copy()),
                                            ::testing::Values(2, 3),
                                            ::testing::Values(6, 12)),
                         [](const auto& param_info) {
                           std::string name = std::get<0>(param_info.param) + "_P" +
                                              std::to_string(std::get<1>(param_info.param)) + "_M" +
                                              std::to_string(std::get<2>(param_info.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return "s_" + name;
                         });

// Whoever adds a schedule need not add it here.
TEST(ScheduleLists, HoldWhatHasAName) {
  const std::vector<std::string> one = schedules_of_one_copy();
  const std::vector<std::string> several = schedules_of_several_copies();
  for (const char* name : {"1f1b", "v-adaptive", "dualpipe-v", "auto"})
    EXPECT_EQ(std::count(one.begin(), one.end(), name), 1) << name;
  EXPECT_EQ(several, (std::vector<std::string>{"dualpipe", "chimera"}));
  const std::vector<std::string> asynchronous = asynchronous_schedules();
  EXPECT_EQ(asynchronous, (std::vector<std::string>{"pipedream", "pipedream-2bw"}));
  // seq1f1b is none of these.
  EXPECT_EQ(one.size() + several.size() + asynchronous.size() + 1, named_schedules().size());
}

// What is searched for one number of microbatches is run with another, as an epoch's last batch.
TEST(Searched, OverSeveralStagesARankAndWithAnotherNumberOfMicrobatches) {
  torch::set_num_threads(1);
  for (const int stages_per_rank : {1, 2, 3}) {
    SCOPED_TRACE(stages_per_rank);
    const Case c{8, true, 0.1, 0.05};
    const PlanWish wish = {.schedule = "auto", .ranks = 2, .stages_per_rank = stages_per_rank};
    expect_same(pipelined(c, wish, false), one_process(c));
    const Plan plan = plan_of(c, wish);
    EXPECT_EQ(plan.placement.stages(), 2 * stages_per_rank);
    EXPECT_LE(plan.found->makespan, plan.found->fixed_makespan * (1 + 1e-9));
    for (const int microbatches : {1, 3, 8}) {
      const Schedule schedule = schedule_of(plan, microbatches, Pass::Train);
      EXPECT_EQ(schedule.microbatches, microbatches);
      EXPECT_EQ(schedule.placement, plan.placement);
    }
  }
}

// Replicas: pipelines beside one another, stages with replicas of their own, schedules that keep
// two copies of the weights; the optimizer whole or sharded.
struct Replicated {
  std::string schedule;
  int ranks;
  std::vector<int> replicas;
  int microbatches;
};

class WithReplicas : public ::testing::TestWithParam<std::tuple<Replicated, bool, bool>> {};

TEST_P(WithReplicas, ToTheBit) {
  torch::set_num_threads(1);
  const auto& [given, tied, sharded] = GetParam();
  const Case c{given.microbatches, tied, 0.1, 0.05};
  const PlanWish wish = {
      .schedule = given.schedule, .ranks = given.ranks, .replicas = given.replicas};
  expect_same(pipelined(c, wish, sharded), one_process(c, replicas_of_layers(plan_of(c, wish))));
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         WithReplicas,
                         ::testing::Combine(::testing::Values(Replicated{"1f1b", 1, {4}, 6},
                                                              Replicated{"1f1b", 2, {2}, 8},
                                                              Replicated{"1f1b", 2, {3}, 7},
                                                              Replicated{"gpipe", 2, {2}, 5},
                                                              Replicated{"1f1b", 2, {3, 1}, 9},
                                                              Replicated{"1f1b", 2, {1, 3}, 9},
                                                              Replicated{"1f1b", 3, {1, 2, 1}, 8},
                                                              Replicated{"gpipe", 2, {2, 3}, 6},
                                                              Replicated{"interleaved", 2, {2}, 8},
                                                              Replicated{"zb-h1", 2, {2}, 8},
                                                              Replicated{"zb-v", 2, {2}, 8},
                                                              Replicated{"chimera", 2, {1}, 4},
                                                              Replicated{"chimera", 4, {1}, 8},
                                                              Replicated{"chimera", 2, {2}, 8},
                                                              Replicated{"dualpipe", 2, {1}, 8},
                                                              Replicated{"dualpipe", 4, {1}, 8}),
                                            ::testing::Bool(),
                                            ::testing::Bool()),
                         [](const auto& param_info) {
                           const Replicated& given = std::get<0>(param_info.param);
                           std::string name =
                               "s_" + given.schedule + "_P" + std::to_string(given.ranks) + "_r";
                           for (const int r : given.replicas) name += std::to_string(r);
                           name += "_M" + std::to_string(given.microbatches);
                           if (std::get<1>(param_info.param)) name += "_tied";
                           if (std::get<2>(param_info.param)) name += "_sharded";
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Numbers of layers that the stages do not divide: none is left out.
TEST(UnevenLayers, ToTheBit) {
  torch::set_num_threads(1);
  struct Sizes {
    int layers, ranks;
    std::string schedule;
  };
  for (const Sizes& sizes : std::vector<Sizes>{{30, 4, "1f1b"},
                                               {13, 4, "1f1b"},
                                               {10, 3, "1f1b"},
                                               {7, 2, "1f1b"},
                                               {10, 4, "interleaved"},
                                               {40, 8, "interleaved"},
                                               {13, 3, "zb-v"}}) {
    SCOPED_TRACE(testing::Message() << sizes.layers << " layers, " << sizes.ranks << " ranks");
    const Case c{8, true, 0, 0.05, sizes.layers};
    expect_same(pipelined(c, sizes.schedule, sizes.ranks, false), one_process(c));
  }
}

class EveryFamily : public ::testing::TestWithParam<std::tuple<std::string, std::string, bool>> {};

TEST_P(EveryFamily, ToTheBit) {
  const auto& [family, schedule, tied] = GetParam();
  Case c{6, tied, 0.1, 0.05};
  c.family = *family_of(family);
  for (const torch::ScalarType precision : {torch::kFloat32, torch::kBFloat16}) {
    c.precision = precision;
    const Outcome expected = one_process(c);
    for (const Recompute recompute : {Recompute::None, Recompute::Attention, Recompute::All}) {
      SCOPED_TRACE(testing::Message() << "recompute " << static_cast<int>(recompute));
      expect_same(pipelined(c, {.schedule = schedule, .ranks = 2, .recompute = recompute}, false),
                  expected);
    }
    expect_same(pipelined(c, {.schedule = schedule, .ranks = 3}, false), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Grid,
    EveryFamily,
    ::testing::Combine(::testing::Values("llama", "mistral", "qwen2", "qwen3"),
                       ::testing::Values("1f1b", "zb-h1", "interleaved", "zb-v"),
                       ::testing::Bool()),
    [](const auto& param_info) {
      std::string name = std::get<0>(param_info.param) + "_" + std::get<1>(param_info.param) +
                         (std::get<2>(param_info.param) ? "_tied" : "");
      std::ranges::replace(name, '-', '_');
      return name;
    });

// Messages that are handed over late, from buffers that must still be whole then.
TEST(SlowTransport, ToTheBit) {
  torch::set_num_threads(1);
  const Case c{8, true, 0.1, 0.05};
  const Outcome expected = one_process(c);
  for (const char* schedule : {"gpipe", "1f1b", "zb-h1"}) {
    SCOPED_TRACE(schedule);
    expect_same(pipelined(c, schedule, 4, false, {.delay = 0.005}), expected);
  }
}

}  // namespace
}  // namespace headrace
