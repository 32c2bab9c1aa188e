#include "headrace/launch/worker.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

// A signal handler can reach nothing but a global.
std::atomic<bool> stop{false};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
static_assert(std::atomic<bool>::is_always_lock_free);

int number_in_environment(const char* name) {
  const char* text = std::getenv(name);
  int number = -1;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), number);
  return number;
}

}  // namespace

bool is_worker() {
  return std::getenv("HEADRACE_WORKER") != nullptr;
}

std::string run_dir_of_launcher() {
  const char* folder = std::getenv("HEADRACE_RUN_DIR");
  return is_worker() && folder != nullptr ? folder : "";
}

int restarts_by_launcher() {
  return is_worker() ? std::max(0, number_in_environment("HEADRACE_RESTARTS")) : 0;
}

void bind_to_launcher() {
  const int launcher = number_in_environment("HEADRACE_LAUNCHER_PID");
  if (!is_worker() || launcher <= 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // It may have died before that call.
  if (::getppid() != launcher) ::_exit(1);
}

void report_error(const std::string& text, int at_fault, int exit_code) {
  static std::atomic<bool> reported{false};
  if (reported.exchange(true)) return;
  const int fd = number_in_environment("HEADRACE_ERROR_FD");
  // One write of at most PIPE_BUF bytes arrives whole or not at all, however the process ends.
  const std::string message = cat(at_fault, ' ', exit_code, ' ', text.substr(0, 4000), '\n');
  if (!is_worker() || fd < 0 || ::write(fd, message.data(), message.size()) < 0)
    std::fprintf(stderr, "error: %s\n", text.c_str());
}

void install_stop_handler() {
  struct sigaction action{};
  action.sa_handler = [](int) { stop.store(true, std::memory_order_relaxed); };
  ::sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGUSR1, &action, nullptr);  // what batch systems send some time before the end
  // Control-C reaches the launcher too, which sends SIGTERM.
  if (!is_worker()) ::sigaction(SIGINT, &action, nullptr);
}

bool stop_requested() {
  return stop.load(std::memory_order_relaxed);
}

}  // namespace headrace
