// Pipelines beside one another, and stages with replicas of their own.
#include "headrace/schedule/generators/replicate.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/lower.h"
#include "headrace/simulate/simulate.h"

namespace headrace {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

std::string row(const Schedule& schedule, std::size_t rank) {
  std::string text;
  for (const Action& action : schedule.ranks[rank]) text += to_string(action) + " ";
  return text;
}

TEST(Replicate, TwoPipelinesOf1f1b) {
  const Schedule schedule = replicate("1f1b", {.ranks = 2, .microbatches = 4}, {2});
  ASSERT_EQ(schedule.ranks.size(), 4U);
  EXPECT_EQ(row(schedule, 0), "0F0 0F2 0B0 0B2 ");
  EXPECT_EQ(row(schedule, 1), "0F1 0F3 0B1 0B3 ");
  EXPECT_EQ(row(schedule, 2), "1F0 1B0 1F2 1B2 ");
  EXPECT_EQ(row(schedule, 3), "1F1 1B1 1F3 1B3 ");
  EXPECT_EQ(schedule.placement.owners, (std::vector<std::vector<int>>{{0, 1}, {2, 3}}));
}

// PipeDream's 3-1: each of the three has at most ⌈4/3⌉ = 2 microbatches under way.
TEST(Replicate, ThreeRanksBeforeOne) {
  const Schedule schedule = replicate("1f1b", {.ranks = 2, .microbatches = 7}, {3, 1});
  ASSERT_EQ(schedule.ranks.size(), 4U);
  EXPECT_EQ(row(schedule, 0), "0F0 0F3 0B0 0F6 0B3 0B6 ");
  EXPECT_EQ(row(schedule, 1), "0F1 0F4 0B1 0B4 ");
  EXPECT_EQ(row(schedule, 2), "0F2 0F5 0B2 0B5 ");
  EXPECT_EQ(row(schedule, 3), "1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3 1F4 1B4 1F5 1B5 1F6 1B6 ");
}

TEST(Replicate, EveryScheduleIsSound) {
  int sound = 0;
  for (const Generator& generator : generators())
    for (const int ranks : {1, 2, 4})
      for (const int replicas : {2, 3})
        for (const int microbatches : {replicas, 2 * replicas + 1, 8 * replicas, 16 * replicas}) {
          Schedule schedule;
          try {
            schedule = replicate(generator.name, {.ranks = ranks, .microbatches = microbatches},
                                 {replicas});
          } catch (const UsageError&) {
            continue;
          }
          SCOPED_TRACE(generator.name + " " + std::to_string(ranks) + " " +
                       std::to_string(replicas) + " " + std::to_string(microbatches));
          EXPECT_EQ(schedule.microbatches, microbatches);
          EXPECT_EQ(schedule.placement,
                    replicated_placement(generator.name, {.ranks = ranks}, {replicas}));
          EXPECT_THAT(validate(schedule).violations, testing::IsEmpty());
          EXPECT_THAT(validate(lower(schedule)).violations, testing::IsEmpty());
          ++sound;
        }
  EXPECT_GT(sound, 250);
}

TEST(Replicate, StagesWithReplicasOfTheirOwnAreSound) {
  for (const char* name : {"1f1b", "gpipe"})
    for (const std::vector<int>& replicas : std::vector<std::vector<int>>{
             {3, 1}, {1, 3}, {2, 1, 1}, {1, 2, 3}, {4, 2, 1}, {1, 2, 1, 2}})
      for (const int microbatches : {4, 5, 12, 25}) {
        const int ranks = static_cast<int>(replicas.size());
        const Schedule schedule =
            replicate(name, {.ranks = ranks, .microbatches = microbatches}, replicas);
        SCOPED_TRACE(std::string(name) + " " + testing::PrintToString(replicas));
        EXPECT_EQ(schedule.placement, replicated_placement(name, {.ranks = ranks}, replicas));
        EXPECT_THAT(validate(schedule).violations, testing::IsEmpty());
        EXPECT_THAT(validate(lower(schedule)).violations, testing::IsEmpty());
      }
}

// A first stage three times as long as the second, over three ranks: the second never waits once it
// has begun, but for the other's last round.
TEST(Replicate, ReplicasFillALongStage) {
  Costs costs;
  costs.forward = {3, 1};
  costs.backward_input = {3, 1};
  costs.backward_weight = {3, 1};
  const Schedule schedule = replicate("1f1b", {.ranks = 2, .microbatches = 30}, {3, 1});
  // 30 microbatches at 3 a microbatch, the first forward before and the last backward after.
  EXPECT_LE(simulate_totals(schedule, costs).makespan, 90 + 3 + 6 + 9);
}

TEST(Replicate, Refusals) {
  const auto refuse = [](const std::string& name, int ranks, int microbatches,
                         const std::vector<int>& replicas, const std::string& part) {
    EXPECT_THAT([&] { replicate(name, {.ranks = ranks, .microbatches = microbatches}, replicas); },
                ThrowsMessage<UsageError>(HasSubstr(part)));
  };
  refuse("1f1b", 2, 2, {3}, "3 microbatches or more");
  refuse("1f1b", 2, 8, {0}, "1 or more");
  refuse("1f1b", 2, 8, {2, 1, 1}, "3 stages, and there are 2");
  refuse("zb-h1", 2, 8, {2, 1}, "1f1b or gpipe");
  refuse("seq1f1b", 2, 8, {2}, "splits sequences");
}

}  // namespace
}  // namespace headrace
