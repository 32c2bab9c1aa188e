// A launcher whose calls of the kernel are counted: one of its two workers ends just before the
// first of them, in the next launch just before the second, and so on for every call that a launch
// makes. Whenever the worker ends, the launcher must not go to sleep on it: where one of its
// children has ended, and nothing that it polls for is there to say so, it would only find out when
// the poll's limit is over. Prints how many instants there were; exits with 1 at the first sleep.
//
// The linker puts the functions __wrap_… in the place of the kernel's (--wrap in CMakeLists.txt).
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/launch/launch.h"
#include "headrace/launch/worker.h"

extern "C" {
int __real_poll(pollfd* fds, nfds_t count, int timeout);
ssize_t __real_read(int fd, void* to, size_t size);
pid_t __real_waitpid(pid_t pid, int* status, int options);
}

namespace headrace {
namespace {

// What a wrapped function can reach.
struct Instants {
  std::array<int, 2> here{};     // a pipe: the second worker says its id
  std::array<int, 2> release{};  // a pipe: and ends when it reads something
  bool counting = false;         // both workers have been started
  int calls = 0;
  int chosen = 0;  // the call before which it ends
  bool ended = false;
  bool alone = false;  // the other worker has ended, and the launcher knows
};
Instants instants;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

void end_worker() {
  pid_t pid = 0;
  check(__real_read(instants.here[0], &pid, sizeof pid) == sizeof pid, "no id");
  check(::write(instants.release[1], "x", 1) == 1, "no release");
  siginfo_t info{};
  check(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) == 0, "no end");
  instants.ended = true;
}

void count_call() {
  if (!instants.counting || instants.ended) return;
  if (++instants.calls == instants.chosen) end_worker();
}

bool a_child_has_ended() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

int work() {
  bind_to_launcher();
  if (std::string(std::getenv("RANK")) == "0") return 0;
  const pid_t own = ::getpid();
  char released = 0;
  const bool ok = ::write(std::atoi(std::getenv("HERE")), &own, sizeof own) == sizeof own &&
                  __real_read(std::atoi(std::getenv("RELEASE")), &released, 1) == 1;
  return ok ? 0 : 3;
}

int launch_at_every_instant(const std::string& program) {
  check(::pipe(instants.here.data()) == 0 && ::pipe(instants.release.data()) == 0, "no pipe");
  ::setenv("HERE", std::to_string(instants.here[1]).c_str(), 1);
  ::setenv("RELEASE", std::to_string(instants.release[0]).c_str(), 1);
  do {
    instants.counting = false;
    instants.ended = false;
    instants.alone = false;
    instants.calls = 0;
    ++instants.chosen;
    if (const int code = launch({.workers = 2, .arguments = {program}}); code != 0) return code;
  } while (instants.calls == instants.chosen);
  std::printf("%d instants\n", instants.chosen - 1);
  return 0;
}

}  // namespace
}  // namespace headrace

// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" int __wrap_poll(pollfd* fds, nfds_t count, int timeout) {
  using namespace headrace;  // NOLINT(google-build-using-namespace)
  instants.counting = true;
  count_call();
  // In this order: an end between the two is something to be told of.
  const bool ended = a_child_has_ended();
  if (__real_poll(fds, count, 0) == 0) {
    if (ended) {
      std::printf("sleeps on a worker that ended before call %d\n", instants.chosen);
      std::fflush(stdout);
      ::_exit(1);
    }
    // There may be nothing else left to wait for.
    if (!instants.ended && instants.alone) end_worker();
  }
  return __real_poll(fds, count, timeout);
}

extern "C" ssize_t __wrap_read(int fd, void* to, size_t size) {
  headrace::count_call();
  return __real_read(fd, to, size);
}

extern "C" pid_t __wrap_waitpid(pid_t pid, int* status, int options) {
  headrace::count_call();
  const pid_t ended = __real_waitpid(pid, status, options);
  headrace::instants.alone = headrace::instants.alone || ended > 0;
  return ended;
}
// NOLINTEND(bugprone-reserved-identifier)

int main(int, char** argv) {
  using namespace headrace;  // NOLINT(google-build-using-namespace)
  if (is_worker()) return work();
  try {
    return launch_at_every_instant(argv[0]);
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
