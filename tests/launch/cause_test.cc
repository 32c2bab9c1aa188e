#include "headrace/launch/cause.h"

#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/launch/status.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Outcome killed(int signal, int order = 0) {
  Outcome outcome;
  outcome.ended = true;
  outcome.signal = signal;
  outcome.order = order;
  return outcome;
}
Outcome exited(int code, int order = 0) {
  Outcome outcome;
  outcome.ended = true;
  outcome.exit_code = code;
  outcome.order = order;
  return outcome;
}
Outcome report(int at_fault, const std::string& text, int order = 0, int code = 1) {
  Outcome outcome;
  outcome.reported = true;
  outcome.at_fault = at_fault;
  outcome.reported_code = code;
  outcome.text = text;
  outcome.order = order;
  return outcome;
}

std::vector<Status> statuses(std::size_t ranks) {
  std::vector<Status> out(ranks);
  for (std::size_t rank = 0; rank < ranks; ++rank)
    out[rank] = {Phase::Training, 7, static_cast<int>(rank), std::to_string(rank) + "B3"};
  return out;
}

std::string text(const std::vector<Outcome>& outcomes, double seconds) {
  const auto cause = find_cause(outcomes, statuses(outcomes.size()), seconds);
  return cause ? cause->text : "none yet";
}

TEST(FindCause, AKilledWorkerIsTheCause) {
  EXPECT_THAT(text({report(1, "lost 1", 0), killed(9, 1)}, 0),
              HasSubstr("rank 1 (stage 1) was killed by signal 9 (Killed)"));
  EXPECT_THAT(text({report(1, "lost 1", 0), killed(9, 1)}, 0), HasSubstr("at step 7, during 1B3"));
  EXPECT_THAT(text({killed(9, 1), killed(11, 0)}, 0), HasSubstr("rank 1 (stage 1)"));
}

TEST(FindCause, AWorkerThatSaidWhyAndThenCrashedHasSaidWhy) {
  Outcome outcome = report(0, "no memory");
  outcome.ended = true;
  outcome.signal = 6;
  EXPECT_EQ(text({outcome, Outcome()}, 1), "no memory");
}

TEST(FindCause, AReportWaitsForADeath) {
  EXPECT_EQ(text({report(0, "my own"), Outcome()}, 0), "none yet");
  EXPECT_EQ(text({report(0, "my own"), Outcome()}, 0.3), "my own");
  EXPECT_EQ(text({report(0, "second", 1), report(1, "first", 0)}, 0.3), "first");
}

TEST(FindCause, AnEchoWaitsForThePeer) {
  EXPECT_EQ(text({report(1, "lost 1"), Outcome()}, 1), "none yet");
  EXPECT_EQ(text({report(1, "lost 1"), report(1, "no memory", 1)}, 1), "no memory");
  EXPECT_THAT(text({report(1, "lost 1"), exited(5, 1)}, 2.1),
              HasSubstr("rank 1 (stage 1) ended with exit code 5 at step 7"));
}

TEST(FindCause, OfAChainOfEchoesTheEndIsNamed) {
  Outcome stopped;
  stopped.stopped = true;
  EXPECT_THAT(text({report(1, "0 waited for 1", 0), report(2, "1 waited for 2", 1), stopped}, 2.1),
              AllOf(HasSubstr("1 waited for 2"),
                    HasSubstr("rank 2 (stage 2) is stopped (as by SIGSTOP), last seen at step 7")));
  EXPECT_EQ(text({report(1, "0 lost 1", 0), report(0, "1 lost 0", 1)}, 2.1).substr(0, 8),
            "0 lost 1");
}

TEST(FindCause, NobodyLeftToWaitFor) {
  Outcome echo = report(1, "lost 1");
  echo.ended = true;
  EXPECT_EQ(text({echo, exited(0)}, 0), "lost 1");
}

TEST(FindCause, WhatWeDidIsNoFailure) {
  Outcome ours = killed(15);
  ours.ended_by_us = true;
  EXPECT_FALSE(ours.failed());
  EXPECT_FALSE(exited(0).failed());
  EXPECT_FALSE(exited(143).failed());
  EXPECT_FALSE(Outcome().failed());
}

TEST(FindCause, TheExitCodeIsTheWorkers) {
  EXPECT_EQ(find_cause({report(0, "wrong", 0, 2)}, statuses(1), 1)->exit_code, 2);
  EXPECT_EQ(find_cause({report(0, "wrong", 0, 1)}, statuses(1), 1)->exit_code, 1);
  EXPECT_EQ(find_cause({exited(7)}, statuses(1), 3)->exit_code, 1);
}

}  // namespace
}  // namespace headrace
