#include "headrace/base/available_memory.h"

#include <filesystem>
#include <fstream>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr double kKiB = 1024;

// /proc and /sys as files of a folder.
class Machine : public testing::Test {
 protected:
  Machine() : root_(std::filesystem::path(testing::TempDir()) / std::to_string(getpid())) {}
  ~Machine() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  AvailableMemory ask() const { return available_memory(root_); }

 private:
  std::filesystem::path root_;
};

TEST_F(Machine, IsUnlimitedWhereNothingSays) {
  EXPECT_EQ(ask().bytes, std::numeric_limits<double>::infinity());
}

TEST_F(Machine, HasItsFreeMemoryAndSwap) {
  write("proc/meminfo", "MemTotal:  9000 kB\nMemAvailable:    5000 kB\nSwapFree:  300 kB\n");
  EXPECT_EQ(ask().bytes, 5300 * kKiB);
  EXPECT_EQ(ask().where, "this machine");
}

TEST_F(Machine, OfVersion2GroupsTheTightestHolds) {
  write("proc/meminfo", "MemAvailable: 1000000 kB\n");
  write("proc/self/cgroup", "0::/jobs/mine\n");
  write("sys/fs/cgroup/jobs/mine/memory.max", "max\n");
  write("sys/fs/cgroup/jobs/mine/memory.current", "1000\n");
  EXPECT_EQ(ask().where, "this machine");
  write("sys/fs/cgroup/jobs/memory.max", "900000\n");
  write("sys/fs/cgroup/jobs/memory.current", "800000\n");
  EXPECT_EQ(ask().bytes, 100000);
  EXPECT_EQ(ask().where, "this process's control group");
  // What files hold in memory is given back when asked for.
  write("sys/fs/cgroup/jobs/memory.stat", "anon 1\ninactive_file 5000\nactive_file 700\n");
  EXPECT_EQ(ask().bytes, 105700);
}

TEST_F(Machine, OfVersion1GroupsAContainerSeesOnlyTheRoot) {
  write("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/f00d\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "700000\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "650000\n");
  write("sys/fs/cgroup/memory/memory.stat", "inactive_file 9\ntotal_inactive_file 1000\n");
  EXPECT_EQ(ask().bytes, 51000);
}

TEST(AvailableMemory, IsFoundHere) {
  const AvailableMemory here = available_memory();
  EXPECT_GT(here.bytes, 1e6);
  EXPECT_LT(here.bytes, 1e15);
}

TEST(AvailableMemory, IsComparedWithWhatIsWanted) {
  EXPECT_NO_THROW(require_memory(1, "a byte"));
  EXPECT_THAT([] { require_memory(1e18, "a picture of the sky"); },
              ThrowsMessage<UsageError>(AllOf(HasSubstr("a picture of the sky: 909494.7 TiB, and"),
                                              HasSubstr(" left; choose smaller sizes"))));
}

TEST(AvailableMemory, ThatRunsOutIsNamed) {
  const auto fails = [](const auto& failure) {
    return [failure] { naming_memory("drawing", [&]() -> int { throw failure; }); };
  };
  EXPECT_THAT(fails(std::bad_alloc()),
              ThrowsMessage<Error>(HasSubstr("memory ran out while drawing; ")));
  EXPECT_THAT(fails(std::length_error("vector::reserve")),
              ThrowsMessage<Error>(HasSubstr("memory ran out while drawing; ")));
  EXPECT_THAT(fails(Error("no pencil")), ThrowsMessage<Error>("no pencil"));
  EXPECT_EQ(naming_memory("adding", [] { return 3; }), 3);
  EXPECT_THAT(failure_text(std::bad_alloc()), HasSubstr("memory ran out; "));
  EXPECT_EQ(failure_text(Error("no pencil")), "no pencil");
}

}  // namespace
}  // namespace headrace
