// Real processes: launch_program is launcher and worker in one.
#include "headrace/launch/launch.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/launch/cores.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

bool eventually(const std::function<bool()>& condition, double seconds = 10) {
  const auto limit = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < limit) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return condition();
}

// Neither running nor a zombie that somebody has still to wait for.
bool gone(pid_t pid) {
  std::ifstream file(cat("/proc/", pid, "/stat"));
  std::string text;
  if (!std::getline(file, text)) return true;
  return text.at(text.rfind(')') + 2) == 'Z';
}

// A started launch_program: its output goes to pipes that are read to their end.
class Started {
 public:
  explicit Started(std::vector<std::string> arguments) : begin_(Clock::now()) {
    arguments.insert(arguments.begin(), LAUNCH_PROGRAM);
    std::array<int, 2> out_pipe{};
    std::array<int, 2> err_pipe{};
    EXPECT_EQ(::pipe2(out_pipe.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(err_pipe.data(), O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, out_pipe[1], 1);
    ::posix_spawn_file_actions_adddup2(&actions, err_pipe[1], 2);
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    EXPECT_EQ(::posix_spawn(&pid_, LAUNCH_PROGRAM, &actions, nullptr, pointers.data(), environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(out_pipe[1]);
    ::close(err_pipe[1]);
    out_fd_ = out_pipe[0];
    err_fd_ = err_pipe[0];
    ::fcntl(out_fd_, F_SETFL, O_NONBLOCK);
    ::fcntl(err_fd_, F_SETFL, O_NONBLOCK);
  }
  ~Started() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(out_fd_);
    ::close(err_fd_);
  }
  Started(const Started&) = delete;
  Started& operator=(const Started&) = delete;

  pid_t pid() const { return pid_; }

  // Exit code, or minus the signal. Every worker must be gone when the launcher is, or, where that
  // one was killed, very soon.
  int wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    seconds_ = std::chrono::duration<double>(Clock::now() - begin_).count();
    pid_ = -1;
    read();
    const double patience = WIFEXITED(status) ? 0 : 5;
    for (const auto& [rank, worker] : workers())
      EXPECT_TRUE(eventually([pid = worker] { return gone(pid); }, patience)) << "rank " << rank;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  // Process ids by rank of the workers that have said so, once there are `ranks` of them.
  std::map<int, pid_t> wait_for_workers(std::size_t ranks) {
    EXPECT_TRUE(eventually([&] { return workers().size() == ranks; })) << out << err;
    return workers();
  }
  std::map<int, pid_t> workers() {
    read();
    std::map<int, pid_t> pids;
    std::istringstream lines(out);
    for (std::string line; std::getline(lines, line);) {
      int rank = 0;
      int pid = 0;
      if (std::sscanf(line.c_str(), "worker %d pid %d", &rank, &pid) == 2) pids[rank] = pid;
    }
    return pids;
  }

  double seconds() const { return seconds_; }
  std::string out;
  std::string err;

 private:
  void read() {
    std::array<char, 4096> piece{};
    for (const auto& [fd, text] : {std::pair{out_fd_, &out}, std::pair{err_fd_, &err}})
      for (ssize_t n = 0; (n = ::read(fd, piece.data(), piece.size())) > 0;)
        text->append(piece.data(), static_cast<std::size_t>(n));
  }

  Clock::time_point begin_;
  pid_t pid_ = -1;
  int out_fd_ = -1;
  int err_fd_ = -1;
  double seconds_ = 0;
};

// One line that begins with "error: ".
void expect_one_error(const std::string& err, const std::string& part) {
  EXPECT_THAT(err, AllOf(testing::StartsWith("error: "), HasSubstr(part), EndsWith("\n")));
  EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
}

TEST(Launch, AllEndWell) {
  Started run({"3", "*:steps=5"});
  EXPECT_EQ(run.wait(), 0);
  EXPECT_EQ(run.err, "");
  EXPECT_EQ(run.workers().size(), 3u);
  EXPECT_THAT(run.out, AllOf(HasSubstr("port 1234"), HasSubstr("listen yes")));
}

TEST(Launch, WorkersMayEndAtDifferentTimes) {
  Started run({"2", "0:steps=2", "1:steps=30"});
  EXPECT_EQ(run.wait(), 0);
}

TEST(Launch, ThreadsAreShared) {
  ::unsetenv("OMP_NUM_THREADS");
  const int share = std::max(1, available_cores() / 2);
  Started run({"2", "*:steps=1"});
  EXPECT_EQ(run.wait(), 0);
  EXPECT_THAT(run.out, HasSubstr(cat("threads ", share, " ")));
}

// Without a clock: launch_instants_program looks at what the launcher goes to sleep on.
TEST(Launch, AWorkerMayEndAtAnyInstant) {
  FILE* program = ::popen(LAUNCH_INSTANTS_PROGRAM, "r");
  ASSERT_NE(program, nullptr);
  std::array<char, 200> line{};
  std::string said;
  while (std::fgets(line.data(), line.size(), program) != nullptr) said += line.data();
  EXPECT_EQ(::pclose(program), 0) << said;
  int instants = 0;
  EXPECT_EQ(std::sscanf(said.c_str(), "%d instants", &instants), 1) << said;
  EXPECT_GE(instants, 5);  // two ends, each with a poll, reads and waits
}

TEST(LaunchFailure, AKilledWorkerIsNamed) {
  Started run({"3"});
  const auto workers = run.wait_for_workers(3);
  ::kill(workers.at(1), SIGKILL);
  EXPECT_EQ(run.wait(), 1);
  expect_one_error(run.err, "rank 1 (stage 1) was killed by signal 9 (Killed)");
  EXPECT_THAT(run.err, AllOf(HasSubstr("at step "), HasSubstr(", during 1B")));
}

TEST(LaunchFailure, ACrashIsNamedWithItsStep) {
  Started run({"2", "1:kill=6", "0:blame=1"});
  EXPECT_EQ(run.wait(), 1);
  expect_one_error(run.err,
                   "rank 1 (stage 1) was killed by signal 6 (Aborted) at "
                   "step 3, during 1B3");
}

TEST(LaunchFailure, TheReportIsTheMessage) {
  Started run({"3", "2:own"});
  EXPECT_EQ(run.wait(), 1);
  EXPECT_EQ(run.err, "error: rank 2 failed by itself\n");
  EXPECT_LT(run.seconds(), 5);
}

TEST(LaunchFailure, AnEchoLosesAgainstTheCause) {
  Started run({"3", "0:blame=1", "1:late=1"});
  EXPECT_EQ(run.wait(), 1);
  EXPECT_EQ(run.err, "error: rank 1 failed by itself\n");
}

TEST(LaunchFailure, AnEchoAloneIsTheMessage) {
  Started run({"2", "0:blame=1"});
  EXPECT_EQ(run.wait(), 1);
  expect_one_error(run.err, "rank 0 lost rank 1; rank 1 (stage 1) is alive, last seen at step ");
}

TEST(LaunchFailure, AStoppedWorkerIsSaidToBe) {
  Started run({"2", "0:blame=1", "1:kill=19"});
  EXPECT_EQ(run.wait(), 1);  // and it is killed although it cannot hear SIGTERM
  expect_one_error(run.err, "rank 1 (stage 1) is stopped (as by SIGSTOP), last seen at step 3");
}

TEST(LaunchFailure, AnExitWithoutAWord) {
  Started run({"2", "1:exit=5"});
  EXPECT_EQ(run.wait(), 1);
  expect_one_error(run.err, "rank 1 (stage 1) ended with exit code 5 at step 3");
}

TEST(LaunchFailure, AUsageErrorIsExitCodeTwo) {
  Started run({"3", "*:usage"});
  EXPECT_EQ(run.wait(), 2);
  EXPECT_EQ(run.err, "error: the setting is wrong\n");
}

TEST(LaunchFailure, TheDeafAreKilled) {
  Started run({"2", "0:deaf", "1:own"});
  EXPECT_EQ(run.wait(), 1);
  EXPECT_LT(run.seconds(), 10);
}

class LaunchStopSignal : public testing::TestWithParam<int> {};

TEST_P(LaunchStopSignal, EndsCleanly) {
  Started run({"3"});
  run.wait_for_workers(3);
  ::kill(run.pid(), GetParam());
  EXPECT_EQ(run.wait(), 128 + GetParam());
  EXPECT_EQ(run.err, "");
  for (const char* rank : {"0", "1", "2"})
    EXPECT_THAT(run.out, HasSubstr(cat("worker ", rank, " stopped")));
}

INSTANTIATE_TEST_SUITE_P(Signals, LaunchStopSignal, testing::Values(SIGINT, SIGTERM, SIGHUP));

TEST(LaunchStop, TheDeafAreKilledAfterTheGrace) {
  Started run({"2", "*:deaf"});
  run.wait_for_workers(2);
  ::kill(run.pid(), SIGINT);
  EXPECT_EQ(run.wait(), 130);
}

TEST(LaunchStop, ASecondSignalDoesNotWait) {
  Started run({"2", "*:deaf"});
  run.wait_for_workers(2);
  ::kill(run.pid(), SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ::kill(run.pid(), SIGINT);
  EXPECT_EQ(run.wait(), 130);
}

// Control-C reaches every process of the group: workers must not die of it at once.
TEST(LaunchStop, ControlCOfTheGroup) {
  Started run({"2"});
  const auto workers = run.wait_for_workers(2);
  for (const auto& [rank, pid] : workers) ::kill(pid, SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  ::kill(run.pid(), SIGINT);
  EXPECT_EQ(run.wait(), 130);
  EXPECT_THAT(run.out, AllOf(HasSubstr("worker 0 stopped"), HasSubstr("worker 1 stopped")));
  EXPECT_EQ(run.err, "");
}

// As a batch system may: the worker ends well by itself, and so do the others.
TEST(LaunchStop, AWorkerWasToldByAnother) {
  Started run({"2", "*:stopped"});
  EXPECT_EQ(run.wait(), 143);
  EXPECT_EQ(run.err, "");
}

TEST(LaunchOrphans, NoneSurvivesTheLauncher) {
  for (const int signal : {SIGKILL, SIGABRT}) {
    Started run({"3", "*:deaf"});
    run.wait_for_workers(3);
    ::kill(run.pid(), signal);
    EXPECT_EQ(run.wait(), -signal);
  }
}

TEST(LaunchOrphans, ALauncherThatDiesAtOnceLeavesNone) {
  for (int ms = 0; ms < 20; ms += 2) {
    Started run({"2", "*:deaf"});
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    ::kill(run.pid(), SIGKILL);
    EXPECT_EQ(run.wait(), -SIGKILL);
  }
}

TEST(Launch, ManyAtOnce) {
  std::vector<std::unique_ptr<Started>> runs;
  for (int i = 0; i < 6; ++i)
    runs.push_back(std::make_unique<Started>(i % 2 == 0 ? std::vector<std::string>{"2", "*:steps=5"}
                                                        : std::vector<std::string>{"2", "1:own"}));
  for (std::size_t i = 0; i < runs.size(); ++i) EXPECT_EQ(runs[i]->wait(), i % 2 == 0 ? 0 : 1);
}

}  // namespace
}  // namespace headrace
