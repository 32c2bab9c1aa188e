#include "headrace/launch/status.h"

#include <cstdlib>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

namespace headrace {
namespace {

TEST(StatusPage, BeginsEmpty) {
  const StatusPage page = StatusPage::create(3);
  for (int rank = 0; rank < 3; ++rank) {
    const Status status = page.read(rank);
    EXPECT_EQ(status.phase, Phase::Starting);
    EXPECT_EQ(status.step, -1);
    EXPECT_EQ(status.stage, -1);
    EXPECT_EQ(status.action, "");
    EXPECT_EQ(who(rank, status), "rank " + std::to_string(rank));
    EXPECT_EQ(where(status), "while starting");
  }
}

TEST(StatusPage, SlotsAreApart) {
  StatusPage page = StatusPage::create(2);
  page.note_phase(1, Phase::Training);
  page.note_step(1, 7);
  page.note_stage(1, 0);
  page.note_action(1, "0B3");
  EXPECT_EQ(page.read(0).step, -1);
  const Status status = page.read(1);
  EXPECT_EQ(who(1, status), "rank 1 (stage 0)");
  EXPECT_EQ(where(status), "at step 7, during 0B3");
  page.note_action(1, "");
  page.note_phase(1, Phase::Evaluating);
  EXPECT_EQ(where(page.read(1)), "at step 7, in evaluation");
}

TEST(StatusPage, LongActionsAreCut) {
  StatusPage page = StatusPage::create(1);
  page.note_action(0, "1234567890123456789012345678901234567890");
  EXPECT_EQ(page.read(0).action, "123456789012345678901234");
}

TEST(StatusPage, IsSharedThroughItsDescriptor) {
  StatusPage page = StatusPage::create(2);
  ::setenv("HEADRACE_STATUS_FD", std::to_string(::dup(page.fd())).c_str(), 1);
  StatusPage worker = StatusPage::from_environment(2);
  worker.note_step(1, 5);
  EXPECT_EQ(page.read(1).step, 5);
  // Of another size: not ours.
  ::setenv("HEADRACE_STATUS_FD", std::to_string(::dup(page.fd())).c_str(), 1);
  StatusPage other = StatusPage::from_environment(3);
  other.note_step(1, 6);
  EXPECT_EQ(page.read(1).step, 5);
  ::unsetenv("HEADRACE_STATUS_FD");
  EXPECT_EQ(StatusPage::from_environment(1).read(0).step, -1);
}

}  // namespace
}  // namespace headrace
