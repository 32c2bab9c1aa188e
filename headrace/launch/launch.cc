#include "headrace/launch/launch.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/launch/cause.h"
#include "headrace/launch/processes.h"
#include "headrace/launch/status.h"
#include "headrace/launch/worker.h"

namespace headrace {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

// Some tools signal a process and then its whole group.
constexpr double kMeantAsOne = 0.02;  // seconds

// Signals as something to poll for, and as they were before when it is over.
class Signals {
 public:
  Signals() {
    sigset_t wanted;
    ::sigemptyset(&wanted);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD})
      ::sigaddset(&wanted, signal);
    ::sigprocmask(SIG_BLOCK, &wanted, &before_);
    fd_ = ::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    check(fd_ >= 0, "cannot wait for signals: ", std::strerror(errno));
  }
  ~Signals() {
    ::close(fd_);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_; }

  // The next that asks to stop; 0 for none.
  int next_stop() const {
    signalfd_siginfo info{};
    while (::read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info))
      if (info.ssi_signo != SIGCHLD) return static_cast<int>(info.ssi_signo);
    return 0;
  }

 private:
  sigset_t before_{};
  int fd_ = -1;
};

// One run, from the start of its workers to the end of the last.
class Launch {
 public:
  explicit Launch(const LaunchOptions& options)
      : options_(options), page_(StatusPage::create(options.workers)), processes_(options, page_) {}

  int wait() {
    while (!processes_.all_ended()) {
      pause();
      // Before the look: what ends after it then has a signal left for the next pause to end by.
      while (const int signal = signals_.next_stop()) stop(signal);
      processes_.look();
      if (stop_signal_ == 0 && !cause_ && !told_early_) look_for_cause();
      if (kill_after_ > 0 && seconds_since(ending_since_) > kill_after_ && !is_saving()) kill();
    }
    if (stop_signal_ == 0 && !cause_ && !told_early_) look_for_cause();
    if (cause_ && cause_->exit_code == 2) throw UsageError(cause_->text);
    if (cause_)
      throw WorkerError(cause_->text, cause_->rank, page_.read(cause_->rank).step, told_too_late_);
    if (told_early_) return kStoppedExit;
    if (stop_signal_ != 0) return 128 + stop_signal_;
    // A worker may have been told to stop by someone else; all of them then stop together.
    for (const Outcome& outcome : processes_.outcomes())
      if (outcome.exit_code == kStoppedExit) return kStoppedExit;
    return 0;
  }

 private:
  // Until something happens, or a tenth of a second for what only time decides.
  void pause() const {
    std::vector<pollfd> wanted = {{.fd = signals_.fd(), .events = POLLIN, .revents = 0}};
    for (const int fd : processes_.report_fds())
      wanted.push_back({.fd = fd, .events = POLLIN, .revents = 0});
    const bool timed = processes_.any_failed() || kill_after_ > 0;
    ::poll(wanted.data(), wanted.size(), timed ? 100 : 10000);
  }

  void stop(int signal) {
    if (stop_signal_ == 0 && !cause_) {
      stop_signal_ = signal;
      end(options_.stop_grace);
      return;
    }
    if (cause_ && told_too_late_ == 0) told_too_late_ = signal;
    if (signal != SIGHUP && seconds_since(ending_since_) > kMeantAsOne) {
      kill();  // whoever asks twice will not wait
    }
  }

  // A run that was asked to stop writes its last checkpoint, for which it has a limit of its own.
  bool is_saving() const {
    if (stop_signal_ == 0) return false;
    for (int rank = 0; rank < options_.workers; ++rank)
      if (page_.read(rank).phase == Phase::Saving) return true;
    return false;
  }

  void look_for_cause() {
    if (!processes_.any_failed()) return;
    if (was_told_early()) {
      told_early_ = true;
      return end(options_.stop_grace);
    }
    if (!failing_since_) failing_since_ = Clock::now();
    std::vector<Status> statuses;
    statuses.reserve(static_cast<std::size_t>(options_.workers));
    for (int rank = 0; rank < options_.workers; ++rank) statuses.push_back(page_.read(rank));
    cause_ = find_cause(processes_.outcomes(), statuses, seconds_since(*failing_since_));
    if (cause_) end(options_.failure_grace);
  }

  // Whether someone has told a worker to stop that was not yet there to hear it, and has died of it.
  bool was_told_early() const {
    for (int rank = 0; rank < options_.workers; ++rank) {
      const Outcome& outcome = processes_.outcomes()[static_cast<std::size_t>(rank)];
      const bool told = outcome.signal == SIGTERM || outcome.signal == SIGUSR1;
      if (told && page_.read(rank).phase == Phase::Starting) return true;
    }
    return false;
  }

  void end(double grace) {
    processes_.signal_all(SIGTERM);
    ending_since_ = Clock::now();
    kill_after_ = grace;
  }

  void kill() {
    processes_.signal_all(SIGKILL);
    kill_after_ = 0;
  }

  const LaunchOptions& options_;
  Signals signals_;  // blocked before the first worker can die
  StatusPage page_;
  Processes processes_;
  int stop_signal_ = 0;
  int told_too_late_ = 0;    // the signal to stop that came after the failure
  bool told_early_ = false;  // a worker was, before it had begun
  std::optional<Cause> cause_;
  std::optional<Clock::time_point> failing_since_;
  Clock::time_point ending_since_;
  double kill_after_ = 0;  // seconds after ending_since_; 0: not ending, or killed
};

}  // namespace

int launch(const LaunchOptions& options) {
  assert(options.workers >= 1 && !options.arguments.empty());
  return Launch(options).wait();
}

}  // namespace headrace
