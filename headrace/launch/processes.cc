#include "headrace/launch/processes.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/launch/cause.h"
#include "headrace/launch/cores.h"
#include "headrace/launch/launch.h"
#include "headrace/launch/status.h"

extern char** environ;  // NOLINT

namespace headrace {
namespace {

std::vector<std::string> environment_of(const LaunchOptions& options,
                                        const StatusPage& page,
                                        int rank,
                                        int report_fd) {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (equals != std::string::npos) variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  const auto set = [&](const std::string& name, const auto& value) {
    variables[name] = cat(value);
  };
  set("RANK", rank);
  set("LOCAL_RANK", rank);
  set("WORLD_SIZE", options.workers);
  set("LOCAL_WORLD_SIZE", options.workers);
  set("MASTER_ADDR", "127.0.0.1");
  set("MASTER_PORT", options.port);
  set("HEADRACE_WORKER", 1);
  set("HEADRACE_LAUNCHER_PID", ::getpid());
  set("HEADRACE_STATUS_FD", page.fd());
  set("HEADRACE_ERROR_FD", report_fd);
  set("HEADRACE_RUN_DIR", options.run_dir);
  set("HEADRACE_RESTARTS", options.restarts);
  variables.erase("HEADRACE_LISTEN_FD");
  if (rank == 0 && options.listen_fd >= 0) set("HEADRACE_LISTEN_FD", options.listen_fd);

  const int share = std::max(1, available_cores() / options.workers);
  for (const char* name : {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}) {
    if (options.threads > 0) set(name, options.threads);
    variables.try_emplace(name, std::to_string(share));
  }
  // Threads that spin while they wait would take the cores of the other ranks.
  variables.try_emplace("OMP_WAIT_POLICY", "PASSIVE");

  std::vector<std::string> entries;
  entries.reserve(variables.size());
  for (const auto& [name, value] : variables) entries.push_back(cat(name, '=', value));
  return entries;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  out.reserve(texts.size() + 1);
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

// What posix_spawn is told, freed in any case.
struct Spawn {
  posix_spawn_file_actions_t files{};
  posix_spawnattr_t attributes{};

  Spawn() {
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawnattr_init(&attributes);
  }
  ~Spawn() {
    ::posix_spawn_file_actions_destroy(&files);
    ::posix_spawnattr_destroy(&attributes);
  }
  Spawn(const Spawn&) = delete;
  Spawn& operator=(const Spawn&) = delete;

  // A descriptor duplicated onto itself stays open in the child.
  void pass(int fd) { ::posix_spawn_file_actions_adddup2(&files, fd, fd); }

  // The launcher blocks the signals it waits for; workers start with none blocked and with the
  // defaults, but for SIGINT: Control-C reaches the whole group, and workers hear of it from the
  // launcher.
  void reset_signals() {
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    sigset_t defaults;
    ::sigemptyset(&defaults);
    for (const int signal : {SIGTERM, SIGHUP, SIGUSR1, SIGCHLD}) ::sigaddset(&defaults, signal);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
};

}  // namespace

Processes::Processes(const LaunchOptions& options, const StatusPage& page)
    : processes_(static_cast<std::size_t>(options.workers)),
      outcomes_(static_cast<std::size_t>(options.workers)) {
  // Ignoring is inherited over exec.
  struct sigaction ignore{};
  struct sigaction before{};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGINT, &ignore, &before);
  std::string problem;
  for (std::size_t rank = 0; rank < processes_.size() && problem.empty(); ++rank) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
      problem = cat("cannot make a pipe: ", std::strerror(errno));
      break;
    }
    processes_[rank].report_fd = ends[0];
    try {
      processes_[rank].pid = start(options, page, static_cast<int>(rank), ends[1]);
    } catch (const Error& error) {
      problem = error.what();
    }
    ::close(ends[1]);
  }
  ::sigaction(SIGINT, &before, nullptr);
  if (problem.empty()) return;
  kill_rest();
  throw Error(problem);
}

Processes::~Processes() {
  kill_rest();
}

void Processes::kill_rest() {
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    Process& process = processes_[i];
    if (process.pid > 0 && !outcomes_[i].ended) {
      ::kill(process.pid, SIGKILL);
      while (::waitpid(process.pid, nullptr, 0) < 0 && errno == EINTR) {
      }
      outcomes_[i].ended = true;
    }
    if (process.report_fd >= 0) ::close(std::exchange(process.report_fd, -1));
  }
}

pid_t Processes::start(const LaunchOptions& options,
                       const StatusPage& page,
                       int rank,
                       int report_fd) {
  std::vector<std::string> arguments = options.arguments;
  std::vector<std::string> environment = environment_of(options, page, rank, report_fd);
  Spawn spawn;
  spawn.reset_signals();
  spawn.pass(page.fd());
  spawn.pass(report_fd);
  if (rank == 0)
    for (const int fd : {options.listen_fd, options.lock_fd})
      if (fd >= 0) spawn.pass(fd);
  const int threads =
      options.threads > 0 ? options.threads : std::max(1, available_cores() / options.workers);
  const CoresOfWorker cores(rank, options.workers, threads);
  pid_t pid = -1;
  // By this name rather than the path, so that it is the same program even if the file was
  // replaced.
  const int error = ::posix_spawn(&pid, "/proc/self/exe", &spawn.files, &spawn.attributes,
                                  pointers(arguments).data(), pointers(environment).data());
  check(error == 0, "cannot start the worker of rank ", rank, ": ", std::strerror(error));
  return pid;
}

void Processes::hear(Process& process, Outcome& outcome) {
  std::array<char, 4096> piece{};
  while (process.report_fd >= 0) {
    const ssize_t n = ::read(process.report_fd, piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      ::close(std::exchange(process.report_fd, -1));
      break;
    }
    process.heard.append(piece.data(), static_cast<std::size_t>(n));
  }
  if (outcome.reported || process.heard.empty() || process.heard.back() != '\n') return;
  std::istringstream in(process.heard);
  in >> outcome.at_fault >> outcome.reported_code;
  in.get();
  std::getline(in, outcome.text, '\0');
  while (!outcome.text.empty() && outcome.text.back() == '\n') outcome.text.pop_back();
  const bool first = !outcome.failed();
  outcome.reported = true;
  if (first) outcome.order = failures_++;
}

void Processes::reap(const Process& process, Outcome& outcome) {
  int status = 0;
  while (!outcome.ended) {
    const pid_t pid = ::waitpid(process.pid, &status, WNOHANG | WUNTRACED | WCONTINUED);
    if (pid < 0 && errno == EINTR) continue;
    if (pid == 0 || pid < 0) return;
    if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
      outcome.stopped = WIFSTOPPED(status);
      continue;
    }
    const bool known = outcome.failed();
    outcome.ended = true;
    outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    outcome.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (!known && outcome.failed()) outcome.order = failures_++;
  }
}

void Processes::look() {
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    const bool ended = outcomes_[i].ended;
    reap(processes_[i], outcomes_[i]);
    // After the death, so that a report written just before it is not missed.
    if (!ended || processes_[i].report_fd >= 0) hear(processes_[i], outcomes_[i]);
  }
}

void Processes::signal_all(int signal) {
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    if (outcomes_[i].ended) continue;
    outcomes_[i].ended_by_us = true;
    // One that is stopped hears nothing else.
    ::kill(processes_[i].pid, outcomes_[i].stopped ? SIGKILL : signal);
  }
}

bool Processes::all_ended() const {
  return std::all_of(outcomes_.begin(), outcomes_.end(), [](const Outcome& o) { return o.ended; });
}

std::vector<int> Processes::report_fds() const {
  std::vector<int> fds;
  for (const Process& process : processes_)
    if (process.report_fd >= 0) fds.push_back(process.report_fd);
  return fds;
}

}  // namespace headrace
