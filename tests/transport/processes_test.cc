// Ranks that are processes: killed, stopped, failing, late, or not there at all.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/transport/rendezvous/rendezvous.h"

namespace headrace {

namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct Ended {
  bool in_time = true;
  int status = 0;      // of waitpid
  double seconds = 0;  // since the start
  std::string out, err;
  bool is_clean() const { return in_time && WIFEXITED(status) && WEXITSTATUS(status) == 0; }
};

std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  close(fd);
  return text;
}

struct Scenario {
  std::string name;
  int victim = -1;
  double limit = 20;
  double start_limit = 20;
  std::vector<int> absent = {};  // ranks that are not started
  int port = 0;                  // 0: a free one
};

struct Process {
  pid_t id = -1;
  int out = -1, err = -1;
};

Process start(const Scenario& scenario, int rank, int ranks, const Listening& listening) {
  Process process;
  int out[2], err[2];
  check(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0, "no pipe");
  std::map<std::string, std::string> variables = {{"RANK", std::to_string(rank)},
                                                  {"WORLD_SIZE", std::to_string(ranks)},
                                                  {"MASTER_ADDR", "127.0.0.1"},
                                                  {"MASTER_PORT", std::to_string(listening.port)},
                                                  {"OMP_NUM_THREADS", "1"}};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  if (rank == 0 && listening.fd >= 0) {
    variables["HEADRACE_LISTEN_FD"] = std::to_string(listening.fd);
    posix_spawn_file_actions_adddup2(&actions, listening.fd, listening.fd);
  }
  std::vector<std::string> environment;
  for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
  std::vector<std::string> arguments = {
      TRANSPORT_WORKER, scenario.name, std::to_string(scenario.victim),
      std::to_string(scenario.limit), std::to_string(scenario.start_limit)};
  const auto pointers = [](std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (std::string& text : texts) result.push_back(text.data());
    result.push_back(nullptr);
    return result;
  };
  const int failed = posix_spawn(&process.id, TRANSPORT_WORKER, &actions, nullptr,
                                 pointers(arguments).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  check(failed == 0, "cannot start ", TRANSPORT_WORKER, ": ", std::strerror(failed));
  close(out[1]);
  close(err[1]);
  process.out = out[0];
  process.err = err[0];
  return process;
}

// Runs the scenario. A victim that hangs is killed once it alone is left; after `patience` seconds
// what still runs is killed and is not in_time.
std::vector<Ended> play(const Scenario& scenario, int ranks, double patience) {
  Listening listening{-1, scenario.port};
  if (scenario.port == 0) listening = listen_on_free_port();
  std::vector<Process> processes;
  for (int rank = 0; rank < ranks; ++rank)
    if (std::find(scenario.absent.begin(), scenario.absent.end(), rank) == scenario.absent.end())
      processes.push_back(start(scenario, rank, ranks, listening));
  if (listening.fd >= 0) close(listening.fd);
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  std::vector<Ended> ended(processes.size());
  std::size_t running = processes.size();
  while (running > 0) {
    for (std::size_t i = 0; i < processes.size(); ++i) {
      if (processes[i].id < 0) continue;
      const bool last = running == 1 && static_cast<int>(i) == scenario.victim &&
                        (scenario.name == "stop" || scenario.name == "hang");
      if (last) kill(processes[i].id, SIGKILL);
      if (elapsed() > patience) {
        ended[i].in_time = false;
        kill(processes[i].id, SIGKILL);
      }
      if (waitpid(processes[i].id, &ended[i].status, WNOHANG) != processes[i].id) continue;
      ended[i].seconds = elapsed();
      processes[i].id = -1;
      --running;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  for (std::size_t i = 0; i < processes.size(); ++i) {
    ended[i].out = read_all(processes[i].out);
    ended[i].err = read_all(processes[i].err);
    EXPECT_EQ(ended[i].err, "") << "rank " << i;
  }
  return ended;
}

// All but the victim fail in time, which is counted from its end where it ends by itself (the start
// of a process may take long on a busy machine), and exactly one tells.
std::string the_report(const std::vector<Ended>& ended, int victim, double seconds) {
  std::string report;
  double begin = ended[0].seconds;
  for (const Ended& each : ended) begin = std::min(begin, each.seconds);
  for (std::size_t i = 0; i < ended.size(); ++i) {
    if (static_cast<int>(i) == victim) continue;
    EXPECT_TRUE(ended[i].in_time) << "rank " << i;
    EXPECT_LT(ended[i].seconds - begin, seconds) << "rank " << i;
    EXPECT_TRUE(WIFEXITED(ended[i].status) && WEXITSTATUS(ended[i].status) == 1) << "rank " << i;
    EXPECT_THAT(ended[i].out, HasSubstr("failed rank=")) << "rank " << i;
    if (ended[i].out.find("reported=1") == std::string::npos) continue;
    EXPECT_EQ(report, "");
    report = ended[i].out;
  }
  EXPECT_NE(report, "");
  return report;
}

TEST(Processes, EndCleanly) {
  for (const Ended& ended : play({"none"}, 3, 60)) {
    EXPECT_TRUE(ended.is_clean());
    EXPECT_EQ(ended.out, "done\n");
  }
}

// The most bytes in a row that are `byte` in the memory for messages of a process; -1: it has none.
std::int64_t longest_run_in_rings(pid_t process, char byte) {
  const std::filesystem::path descriptors = cat("/proc/", process, "/fd");
  for (const auto& entry : std::filesystem::directory_iterator(descriptors)) {
    std::error_code error;
    if (std::filesystem::read_symlink(entry.path(), error).string().find("headrace-rings") ==
        std::string::npos)
      continue;
    std::ifstream memory(entry.path(), std::ios::binary);
    std::int64_t run = 0, longest = 0;
    for (std::istreambuf_iterator<char> at(memory), end; at != end; ++at) {
      run = *at == byte ? run + 1 : 0;
      longest = std::max(longest, run);
    }
    return longest;
  }
  return -1;
}

bool maps_rings_of_another(pid_t process) {
  std::ifstream maps(cat("/proc/", process, "/maps"));
  int shared = 0;
  for (std::string line; std::getline(maps, line);)
    shared +=
        line.find("rw-s") != std::string::npos && line.find("headrace-rings") != std::string::npos;
  return shared > 1;  // its own, and the peer's
}

TEST(Processes, SmallMessagesGoThroughMemoryThatBothHaveMapped) {
  const Listening listening = listen_on_free_port();
  const std::vector<Process> ranks = {start({"show"}, 0, 2, listening),
                                      start({"show"}, 1, 2, listening)};
  close(listening.fd);
  for (const Process& rank : ranks) {
    std::string said(6, ' ');
    EXPECT_EQ(read(rank.out, said.data(), said.size()), 6);
    EXPECT_EQ(said, "shown\n");
  }
  for (const Process& rank : ranks) EXPECT_TRUE(maps_rings_of_another(rank.id));
  // In the receiver's: the small message, and of the large one nothing.
  EXPECT_GE(longest_run_in_rings(ranks[1].id, 7), 8 * 4096);
  EXPECT_LT(longest_run_in_rings(ranks[1].id, 9), 8);
  for (const Process& rank : ranks) {
    kill(rank.id, SIGKILL);
    waitpid(rank.id, nullptr, 0);
    close(rank.out);
    close(rank.err);
  }
}

TEST(Processes, SomeEndLater) {
  for (const int victim : {0, 1, 2})
    for (const Ended& each : play({"late", victim}, 3, 60)) {
      EXPECT_TRUE(each.is_clean());
      EXPECT_EQ(each.out, "done\n");
    }
}

TEST(Processes, SlowStepWithinTheLimit) {
  for (const Ended& ended : play({"slow", 1, 6}, 2, 60)) EXPECT_TRUE(ended.is_clean());
}

TEST(Processes, ABrokenPipeIsNoEnd) {
  for (const Ended& ended : play({"pipe", 0}, 2, 60)) EXPECT_TRUE(ended.is_clean());
}

TEST(Processes, OneIsKilled) {
  for (const int victim : {1, 3}) {
    const std::string report = the_report(play({"kill", victim}, 4, 60), victim, 10);
    EXPECT_THAT(report,
                AllOf(HasSubstr(cat("rank=", victim)), HasSubstr(cat("rank ", victim, " (host ")),
                      HasSubstr("is gone"), HasSubstr("step 8")));
  }
}

TEST(Processes, TheStoresRankIsKilled) {
  const std::string report = the_report(play({"kill", 0}, 3, 60), 0, 10);
  EXPECT_THAT(report, AllOf(HasSubstr("rank=0"), HasSubstr("rank 0 (host "), HasSubstr("is gone")));
}

TEST(Processes, OneIsStopped) {
  const std::string report = the_report(play({"stop", 2, 2}, 4, 60), 2, 10);
  EXPECT_THAT(report,
              AllOf(HasSubstr("rank=2"), HasSubstr("rank 2 (host "), HasSubstr("nothing for 2.0 s"),
                    HasSubstr("does not answer"), HasSubstr("step 8")));
}

TEST(Processes, TheStoresRankIsStopped) {
  const std::string report = the_report(play({"stop", 0, 2}, 3, 60), 0, 10);
  EXPECT_THAT(report,
              AllOf(HasSubstr("rank=0"), HasSubstr("rank 0 (host "), HasSubstr("does not answer")));
}

TEST(Processes, OneHangs) {
  const std::string report = the_report(play({"hang", 1, 2}, 3, 60), 1, 10);
  EXPECT_THAT(report, AllOf(HasSubstr("rank=1"), HasSubstr("rank 1 (host "),
                            HasSubstr("nothing for 2.0 s"), Not(HasSubstr("does not answer"))));
}

TEST(Processes, OneThrows) {
  for (const int victim : {0, 2}) {
    const std::string report = the_report(play({"throw", victim}, 3, 60), -1, 10);
    EXPECT_EQ(report, cat("failed rank=", victim, " reported=1: out of memory\n"));
  }
}

TEST(Processes, OneIsMissingAtTheStart) {
  for (const int absent : {0, 1}) {
    const Scenario scenario{
        .name = "none", .start_limit = 3, .absent = {absent}, .port = absent ? 0 : 29431};
    for (const Ended& ended : play(scenario, 3, 60)) {
      EXPECT_TRUE(ended.in_time);
      EXPECT_THAT(ended.out, AllOf(HasSubstr("refused: "), HasSubstr("MASTER_PORT"),
                                   HasSubstr(cat("rank ", absent))));
    }
  }
}

TEST(Processes, ThePortIsInUse) {
  const Listening other = listen_on_free_port();
  const auto ended = play({.name = "none", .start_limit = 4, .port = other.port}, 2, 60);
  EXPECT_THAT(ended[0].out, AllOf(HasSubstr("refused: "), HasSubstr(cat("127.0.0.1:", other.port)),
                                  HasSubstr("MASTER_PORT")));
  EXPECT_THAT(ended[1].out, AllOf(HasSubstr("refused: "), HasSubstr(cat("127.0.0.1:", other.port)),
                                  HasSubstr("MASTER_PORT")));
  close(other.fd);
}

// How many connections to that port of this machine are there.
int connections_to(int port) {
  int count = 0;
  char wanted[16];
  // The end of the other side's address, and that it is established.
  std::snprintf(wanted, sizeof wanted, ":%04X 01 ", port);
  for (const char* name : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream table(name);
    for (std::string line; std::getline(table, line);)
      if (line.find(wanted) != std::string::npos) ++count;
  }
  return count;
}

// Once the ranks have met, a port that is scanned, written rubbish into, or held open by many who say nothing
// is no matter: the run goes on.
TEST(Processes, StrangersAtTheStoresPortDisturbNobody) {
  const Listening free = listen_on_free_port();
  close(free.fd);  // rank 0 opens it itself
  std::atomic<bool> over = false;
  int came = 0;
  std::thread strangers([&] {
    std::vector<int> open;
    std::string rubbish(4096, '\0');
    std::uint64_t state = 1;
    while (!over && connections_to(free.port) < 2)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));  // for the rest of their meeting
    while (!over && open.size() < 800) {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(static_cast<std::uint16_t>(free.port));
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        close(fd);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        continue;
      }
      ++came;
      for (char& each : rubbish) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        each = static_cast<char>(state >> 56U);
      }
      if (came % 2 == 0)
        (void)send(fd, rubbish.data(), 1 + state % rubbish.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (came % 3 == 0)
        close(fd);
      else
        open.push_back(fd);
    }
    while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    for (const int fd : open) close(fd);
  });
  const auto ended = play({.name = "slow", .victim = 1, .limit = 20, .port = free.port}, 2, 60);
  over = true;
  strangers.join();
  EXPECT_GT(came, 100);
  for (const Ended& each : ended) {
    EXPECT_TRUE(each.is_clean());
    EXPECT_EQ(each.out, "done\n");
  }
}

}  // namespace

}  // namespace headrace
