#include "headrace/schedule/lower.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/placement.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

std::vector<std::string> texts(const Validation& validation) {
  std::vector<std::string> all;
  for (const Violation& violation : validation.violations) all.push_back(to_string(violation));
  return all;
}

TEST(Lower, IsSoundForAllSizes) {
  for (int ranks = 1; ranks <= 6; ++ranks) {
    for (const int microbatches : {1, 2, 3, 5, 8, 13}) {
      for (const auto& schedule : {gpipe(ranks, microbatches), one_f_one_b(ranks, microbatches),
                                   forward_only(linear_placement(ranks), microbatches),
                                   forward_only(loop_placement(ranks, 3), microbatches),
                                   forward_only(v_placement(ranks), microbatches)}) {
        EXPECT_THAT(texts(validate(schedule)), testing::IsEmpty());
        for (const Receives rule : {Receives::Early, Receives::Paired}) {
          const Schedule lowered = lower(schedule, rule);
          EXPECT_THAT(texts(validate(lowered)), testing::IsEmpty())
              << schedule.name << " P=" << ranks << " M=" << microbatches << "\n"
              << to_csv(lowered);
          EXPECT_TRUE(is_lowered(lowered) || schedule.name == "forward-only");
        }
      }
    }
  }
}

TEST(Lower, ReceivesStandAComputeActionBeforeTheirConsumer) {
  const Schedule lowered = lower(one_f_one_b(4, 8));
  for (const std::vector<Action>& actions : lowered.ranks) {
    for (std::size_t at = 0; at < actions.size(); ++at) {
      if (!is_recv(actions[at].kind)) continue;
      const bool first =
          std::none_of(actions.begin(), actions.begin() + static_cast<std::ptrdiff_t>(at),
                       [](const Action& a) { return is_compute(a.kind); });
      if (first) continue;
      auto next = std::find_if(actions.begin() + static_cast<std::ptrdiff_t>(at), actions.end(),
                               [](const Action& a) { return is_compute(a.kind); });
      ASSERT_NE(next, actions.end());
      EXPECT_FALSE(next->stage == actions[at].stage && next->microbatch == actions[at].microbatch &&
                   (next->kind == Kind::Forward) == (actions[at].kind == Kind::RecvForward))
          << to_string(actions[at]);
    }
  }
}

TEST(Lower, ReceiveBuffersAreFlatInMicrobatches) {
  for (const Receives rule : {Receives::Early, Receives::Paired}) {
    const auto few = validate(lower(one_f_one_b(4, 16), rule)).peak_receives;
    EXPECT_EQ(few, validate(lower(one_f_one_b(4, 256), rule)).peak_receives);
    EXPECT_LE(*std::ranges::max_element(few), 3);
    const auto all = validate(lower(gpipe(4, 256), rule)).peak_receives;
    EXPECT_LE(*std::ranges::max_element(all), 3);
  }
}

TEST(Lower, HandsOverOnOneRank) {
  EXPECT_EQ(to_csv(lower(gpipe(1, 2))), "0F0,0F1,0B0,0B1,0REDUCE_GRAD\n");
  EXPECT_EQ(to_csv(lower(forward_only(v_placement(2), 1))),
            "3RECV_F0,0F0,0SEND_F0,3F0\n1RECV_F0,1F0,2F0,2SEND_F0\n");
}

TEST(Lower, LeavesTransfersAsTheyAre) {
  const Schedule once = lower(one_f_one_b(3, 4));
  EXPECT_EQ(to_csv(lower(once)), to_csv(once));
}

TEST(Lower, RefusesWhatCannotRun) {
  const Schedule wrong = parse_csv("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n", "crossed");
  EXPECT_THAT([&] { lower(wrong); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("waits for")));
}

}  // namespace
}  // namespace headrace
