#include "headrace/schedule/check/validate.h"

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/lower.h"
#include "headrace/schedule/placement.h"
#include "headrace/schedule/schedule.h"
#include "tests/schedule/brute_force.h"

namespace headrace {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> faults(const Schedule& schedule) {
  std::vector<std::string> texts;
  for (const Violation& violation : validate(schedule).violations)
    texts.push_back(to_string(violation));
  return texts;
}
std::vector<std::string> faults(const char* csv) {
  return faults(parse_csv(csv, "test"));
}

TEST(Validate, NamesRankPositionAndAction) {
  EXPECT_THAT(
      faults("0F0,0B0\n1B0,1F0\n"),
      ElementsAre("rank 1, position 0, 1B0: comes before 1F0 at position 1, which it needs"));
  EXPECT_THAT(faults("0F0,0F1,0B0,0B1\n1F0,1B0,1B1\n"), ElementsAre("rank 1, 1F1: is missing"));
  EXPECT_THAT(faults("0F0,0B0,0B0\n"),
              ElementsAre("rank 0, position 2, 0B0: is there twice: 0B0 stands at position 1"));
  EXPECT_THAT(faults("0F0,0I0,0W0,0B0\n"),
              ElementsAre("rank 0, position 3, 0B0: is there twice: 0I0 stands at position 1"));
  EXPECT_THAT(faults("0F0,0F1,0B1,0B0\n"),
              ElementsAre(HasSubstr("position 3, 0B0: breaks the ascending")));
  EXPECT_THAT(faults("0F0,0F1,0I0,0I1,0W1,0W0\n"),
              ElementsAre(HasSubstr("position 5, 0W0: breaks")));
  EXPECT_THAT(faults("0F0,0W0,0I0\n"), ElementsAre(HasSubstr("position 1, 0W0: comes before 0I0")));
  EXPECT_THAT(faults("0F0,0I0\n"), ElementsAre("rank 0, 0W0: is missing"));
  EXPECT_THAT(faults("0F0,0B0,0W0\n"),
              ElementsAre(HasSubstr("position 2, 0W0: its backward is whole")));
  EXPECT_THAT(faults("0F0,0F1,0B0,0REDUCE_GRAD,0B1\n"),
              ElementsAre(HasSubstr("0B1: comes after 0REDUCE")));
}

TEST(Validate, NamesWhatIsOutOfRangeOrMisplaced) {
  Schedule schedule = gpipe(2, 2);
  schedule.ranks[0].push_back({Kind::Forward, 2, 0});
  schedule.ranks[0].push_back({Kind::Forward, 0, 2});
  schedule.ranks[0].push_back({Kind::Forward, -1, 0});
  schedule.ranks[0].push_back({Kind::Forward, 1, 1});
  EXPECT_THAT(
      faults(schedule),
      ElementsAre(HasSubstr("2F0: stage out of range; stages are 0 to 1"),
                  HasSubstr("0F2: microbatch out of range"), HasSubstr("-1F0: stage out of range"),
                  HasSubstr("1F1: microbatch 1 of stage 1 belongs to rank 1")));
  schedule = gpipe(2, 2);
  schedule.placement.owners[1] = {7};
  EXPECT_THAT(faults(schedule), ElementsAre("stage 1 is on no rank"));
  schedule.placement = linear_placement(3);
  EXPECT_THAT(faults(schedule), ElementsAre("the placement is over 3 ranks but there are 2 lists"));
  schedule = gpipe(2, 2);
  schedule.microbatches = 2000000000;
  EXPECT_THAT(faults(schedule), ElementsAre(HasSubstr("only 8 actions")));
}

// PyTorch 2.13's Schedule1F1B starts its last rank at F1.
TEST(Validate, RefusesTheOffByOneList) {
  const std::vector<std::string> found =
      faults("0F0,0F1,0B0,0F2,0B1,0B2\n1F1,1B0,1F2,1B1,1F3,1B2\n");
  EXPECT_THAT(found, Contains("rank 1, 1F0: is missing"));
  EXPECT_THAT(found, Contains(HasSubstr("0F3: is missing")));
}

TEST(Validate, RefusesReceivesInConsumerOrder) {
  // As lower() places them, then the two gradients' receives exchanged on rank 0.
  EXPECT_THAT(
      faults("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
             "1RECV_F1,1RECV_F0,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n"),
      ElementsAre(HasSubstr(
          "rank 1, position 0, 1RECV_F1: receives message 1 of the channel from rank 0, but "
          "rank 0 sends 0SEND_F1 as message 2")));
}

TEST(Validate, FindsDeadlockAndItsWitness) {
  // Both send before they receive: nobody comes to a receive.
  const std::vector<std::string> found = faults(
      "0F0,0F1,0SEND_F0,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
      "1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1\n");
  EXPECT_THAT(found, ElementsAre(HasSubstr(
                         "rank 0 at position 3 (0SEND_F1) waits for 1RECV_F1 of rank 1; rank 1 at "
                         "position 3 (1SEND_B0) waits for 0RECV_B0 of rank 0")));
  EXPECT_THAT(faults("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n"),
              ElementsAre(HasSubstr("deadlock: rank 0 at position 1 (0B0) waits for 1B0 of rank 1; "
                                    "rank 1 at position 1 (1F1) waits for 0F1 of rank 0")));
}

TEST(Validate, NamesTransfersThatShouldNotBe) {
  EXPECT_THAT(faults("0RECV_F0,0F0,0B0\n"),
              ElementsAre(HasSubstr("no neighbour there to receive from")));
  EXPECT_THAT(faults("0F0,0SEND_F0,1RECV_F0,1F0\n2F0\n"),
              ElementsAre(HasSubstr("both stages are on this rank"), HasSubstr("both stages"),
                          HasSubstr("1SEND_F0: is missing"), HasSubstr("2RECV_F0: is missing")));
}

TEST(Validate, UpdatesOfAsynchronousSchedules) {
  EXPECT_THAT(faults("0F0,0F1,0B0,0U,0B1,0U\n1F0,1B0,1U,1F1,1B1,1U\n"), IsEmpty());
  EXPECT_THAT(faults("0F0,0U,0B0,0U\n"), ElementsAre(HasSubstr("position 1, 0U: has no gradient")));
  EXPECT_THAT(faults("0F0,0B0,0U,0F1,0B1\n"), ElementsAre(HasSubstr("0U: is missing: the last 1")));
  EXPECT_THAT(faults("0F0,0F1,0B0,0U,0B1,0U\n1F0,1B0,1F1,1B1,1U\n"),
              ElementsAre(HasSubstr("1U: is done 1 times, but 2 times by stage 0")));
}

TEST(Validate, OverlappedPairsMustBeIndependent) {
  EXPECT_THAT(faults("0F0,(0F1;0B0)OVERLAP_F_B,0B1\n"), IsEmpty());
  EXPECT_THAT(faults("(0F0;0B0)OVERLAP_F_B\n"),
              ElementsAre(HasSubstr("0B0: is overlapped with 0F0")));
}

TEST(Validate, PeaksAreTheClosedForms) {
  for (int p = 1; p <= 6; ++p) {
    for (const int m : {1, 3, 8}) {
      for (int rank = 0; rank < p; ++rank) {
        const auto at = static_cast<std::size_t>(rank);
        EXPECT_EQ(validate(gpipe(p, m)).peak_activations[at], m);
        EXPECT_EQ(validate(lower(one_f_one_b(p, m))).peak_activations[at], std::min(m, p - rank));
      }
    }
  }
  EXPECT_THAT(validate(forward_only(linear_placement(2), 9)).peak_activations, ElementsAre(1, 1));
}

TEST(RequireValid, ListsTenAndCounts) {
  Schedule schedule = gpipe(1, 20);
  schedule.ranks[0].resize(20);
  schedule.ranks[0].push_back({Kind::Backward, 0, 19});
  EXPECT_THAT([&] { require_valid(schedule); },
              testing::ThrowsMessage<Error>(
                  testing::AllOf(HasSubstr("rank 0, 0B0: is missing"), HasSubstr("and 9 more"))));
  EXPECT_NO_THROW(require_valid(gpipe(2, 3)));
}

// Schedules of every shape: fused and split, one and two stages a rank, replicas, overlap.
std::vector<Schedule> samples() {
  std::vector<Schedule> all = {gpipe(3, 3), one_f_one_b(3, 4), one_f_one_b(1, 3),
                               forward_only(v_placement(2), 3)};
  all.push_back(
      parse_csv("0F0,1F1,0F2,1B1,0B0,1F3,0B2,1B3\n1F0,0F1,1B0,1F2,0B1,1B2,0F3,0B3\n", "both"));
  all.push_back(
      parse_csv("0F0,0F1,0F2,3F0,3I0,3W0,3F1,(0F3;3B1)OVERLAP_F_B,(3F2;0B0)OVERLAP_F_B,3B2,"
                "(3F3;0B1)OVERLAP_F_B,3B3,0I2,0W2,0I3,0W3\n"
                "1F0,2F0,1F1,2F1,1F2,2B0,(2F2;1B0)OVERLAP_F_B,(1F3;2B1)OVERLAP_F_B,"
                "(2F3;1B1)OVERLAP_F_B,2B2,1B2,2I3,1I3,2W3,1W3\n",
                "dualpipe-v"));
  const std::size_t plain = all.size();
  for (std::size_t i = 0; i < plain; ++i) {
    all.push_back(lower(all[i]));
    all.push_back(lower(all[i], Receives::Paired));
  }
  return all;
}

// No pair of a mutated list is overlapped: what that means is tested above.
Schedule without_overlap(Schedule schedule) {
  for (auto& actions : schedule.ranks) {
    for (Action& action : actions) action.overlaps_next = false;
  }
  return schedule;
}

TEST(Mutation, IsNamedOrHarmless) {
  std::mt19937 random(20240607);
  int named = 0;
  int harmless = 0;
  for (const Schedule& sample : samples()) {
    ASSERT_THAT(faults(sample), IsEmpty()) << to_csv(sample);
    const Schedule schedule = without_overlap(sample);
    ASSERT_EQ(BruteForce(schedule).run(), "") << to_csv(schedule);
    const auto judge = [&](const Schedule& mutated, const std::string& how) {
      const std::vector<std::string> found = faults(mutated);
      const std::string wrong = BruteForce(mutated).run();
      EXPECT_EQ(found.empty(), wrong.empty())
          << schedule.name << ": " << how << "\nexecuted: " << wrong
          << "\nchecker: " << testing::PrintToString(found) << "\n"
          << to_csv(mutated);
      ++(wrong.empty() ? harmless : named);
    };
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
      for (std::size_t at = 0; at < schedule.ranks[rank].size(); ++at) {
        const Action action = schedule.ranks[rank][at];
        const auto begin = [at](std::vector<Action>& actions) {
          return actions.begin() + static_cast<std::ptrdiff_t>(at);
        };
        Schedule dropped = schedule;
        dropped.ranks[rank].erase(begin(dropped.ranks[rank]));
        judge(dropped, "dropped " + to_string(action));
        Schedule twice = schedule;
        twice.ranks[rank].insert(begin(twice.ranks[rank]), action);
        judge(twice, "doubled " + to_string(action));
        for (std::size_t other = 0; other < schedule.ranks[rank].size(); ++other) {
          Schedule swapped = schedule;
          std::swap(swapped.ranks[rank][at], swapped.ranks[rank][other]);
          if (other > at) judge(swapped, "swapped " + to_string(action));
          Schedule moved = dropped;
          if (other > moved.ranks[rank].size()) continue;
          moved.ranks[rank].insert(moved.ranks[rank].begin() + static_cast<std::ptrdiff_t>(other),
                                   action);
          judge(moved, "moved " + to_string(action));
        }
        Schedule elsewhere = dropped;
        const std::size_t other_rank = random() % schedule.ranks.size();
        auto& list = elsewhere.ranks[other_rank];
        list.insert(list.begin() + static_cast<std::ptrdiff_t>(random() % (list.size() + 1)),
                    action);
        if (other_rank != rank) judge(elsewhere, "moved to another rank " + to_string(action));
      }
    }
  }
  EXPECT_GT(named, 1000);
  EXPECT_GT(harmless, 100);
}

}  // namespace
}  // namespace headrace
