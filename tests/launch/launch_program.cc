// A run without training: `launch_program WORKERS ORDER…` starts workers that note their steps
// until an order ends them. Orders are RANK:DEED[=VALUE], at step 3 unless the deed says otherwise:
//
//   1:kill=9   sends itself a signal            1:exit=3    exits without a word
//   1:own      reports its own failure          0:blame=1   reports that rank 1 was lost
//   1:usage    reports a usage error            0:late=1    as own, a second later
//   *:steps=5  ends well after 5 steps          *:deaf      does not hear SIGTERM
//   *:stopped  exits as one that was told to stop
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/launch/launch.h"
#include "headrace/launch/status.h"
#include "headrace/launch/worker.h"

namespace headrace {
namespace {

struct Order {
  std::string deed;
  int value = 0;
};

std::vector<Order> orders_for(int rank, int argc, char** argv) {
  std::vector<Order> orders;
  for (int i = 2; i < argc; ++i) {
    const std::string text = argv[i];
    const std::size_t colon = text.find(':');
    if (text[0] != '*' && std::stoi(text.substr(0, colon)) != rank) continue;
    const std::size_t equals = text.find('=');
    const int value = equals == std::string::npos ? 0 : std::stoi(text.substr(equals + 1));
    orders.push_back({text.substr(colon + 1, equals - colon - 1), value});
  }
  return orders;
}

void sleep_ms(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

// The exit code with which the order ends the worker; -1 to go on.
int carry_out(const Order& order, int rank, int step) {
  if (order.deed == "steps") return step >= order.value ? 0 : -1;
  if (step != 3) return -1;
  if (order.deed == "kill") {
    ::raise(order.value);
  } else if (order.deed == "exit") {
    return order.value;
  } else if (order.deed == "own" || order.deed == "late") {
    sleep_ms(order.value * 1000);
    report_error(cat("rank ", rank, " failed by itself"), rank);
    return 1;
  } else if (order.deed == "usage") {
    report_error("the setting is wrong", rank, 2);
    return 2;
  } else if (order.deed == "blame") {
    report_error(cat("rank ", rank, " lost rank ", order.value), order.value);
    return 1;
  } else if (order.deed == "stopped") {
    return kStoppedExit;
  }
  return -1;
}

int work(int argc, char** argv) {
  bind_to_launcher();
  const int rank = std::atoi(std::getenv("RANK"));
  const int ranks = std::atoi(std::getenv("WORLD_SIZE"));
  const std::vector<Order> orders = orders_for(rank, argc, argv);
  bool deaf = false;
  for (const Order& order : orders) deaf = deaf || order.deed == "deaf";
  install_stop_handler();
  StatusPage page = StatusPage::from_environment(ranks);
  page.note_stage(rank, rank);
  page.note_phase(rank, Phase::Training);
  std::printf("worker %d pid %d ppid %d port %s threads %s listen %s\n", rank, ::getpid(),
              ::getppid(), std::getenv("MASTER_PORT"), std::getenv("OMP_NUM_THREADS"),
              std::getenv("HEADRACE_LISTEN_FD") == nullptr ? "no" : "yes");
  std::fflush(stdout);
  for (int step = 1;; ++step) {
    page.note_step(rank, step);
    page.note_action(rank, cat(rank, "B", step));
    for (const Order& order : orders)
      if (const int code = carry_out(order, rank, step); code >= 0) return code;
    if (stop_requested() && !deaf) {
      std::printf("worker %d stopped\n", rank);
      return kStoppedExit;
    }
    sleep_ms(20);
  }
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
  using namespace headrace;  // NOLINT(google-build-using-namespace)
  if (is_worker()) return work(argc, argv);
  try {
    return launch({.workers = std::atoi(argv[1]),
                   .arguments = {argv, argv + argc},
                   .port = 1234,
                   .listen_fd = STDIN_FILENO,
                   .stop_grace = 1,
                   .failure_grace = 1});
  } catch (const UsageError& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
