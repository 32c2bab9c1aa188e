// One rank of a small pipeline, as a process: the ranks pass messages down the line and back, step
// by step, until the one named by the scenario does what it is told. Says on stdout how it ended:
//
//   "done", or "failed rank=<at fault> reported=<0|1>: <what>", or "refused: <what>"
//
// Of the scenario "show" rank 0 sends rank 1 a small message of sevens and a large one of nines, and both stay.
//
// transport_worker SCENARIO VICTIM LIMIT START_LIMIT
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include <signal.h>
#include <unistd.h>

#include "headrace/transport/c10d/c10d.h"

namespace {

using headrace::Label;
using headrace::Purpose;
using headrace::Transport;

constexpr int kSteps = 20;
constexpr int kWhen = 7;  // the step at which the victim acts

void sleep(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

void act(const std::string& scenario) {
  if (scenario == "kill") raise(SIGKILL);
  if (scenario == "stop") raise(SIGSTOP);
  if (scenario == "throw") throw headrace::Error("out of memory");
  if (scenario == "hang") sleep(60);
  if (scenario == "slow") sleep(3);
  if (scenario == "pipe") raise(SIGPIPE);  // what writing to a peer that is gone does
}

void step(Transport& transport, int number, int elements) {
  const int rank = transport.rank();
  const int last = transport.size() - 1;
  const Label down{Purpose::Activations, number, rank, 0};
  const Label up{Purpose::Gradients, number, rank, 0};
  const torch::Tensor data = torch::full({elements}, number, torch::kFloat32);
  if (rank > 0) transport.receive(rank - 1, {Purpose::Activations, number, rank - 1, 0})->wait();
  if (rank < last) {
    transport.send(rank + 1, down, {data});
    transport.receive(rank + 1, {Purpose::Gradients, number, rank + 1, 0})->wait();
  }
  if (rank > 0) transport.send(rank - 1, up, {data});
  sleep(0.002);
}

void show(Transport& transport) {
  const auto message = [](int number, std::int64_t elements) {
    return torch::full({elements}, number * 0x0101010101010101, torch::kInt64);
  };
  if (transport.rank() == 0) {
    transport.send(1, {Purpose::Activations, 0, 0, 0}, {message(7, 4096)});
    transport.send(1, {Purpose::Activations, 0, 0, 1}, {message(9, std::int64_t{1} << 18U)});
  } else {
    for (const int microbatch : {0, 1})
      transport.receive(0, {Purpose::Activations, 0, 0, microbatch})->wait();
  }
  transport.flush();
  std::cout << "shown" << std::endl;
  sleep(60);
}

int run(const std::string& scenario, int victim, double limit, double start_limit) {
  std::unique_ptr<Transport> transport;
  try {
    transport = headrace::c10d_transport(*headrace::rendezvous_from_environment(), start_limit);
  } catch (const headrace::Error& error) {
    std::cout << "refused: " << error.what() << std::endl;
    return 1;
  }
  transport->set_limit(limit);
  int at_fault = transport->rank();
  std::string what;
  try {
    if (scenario == "show") show(*transport);
    for (int number = 0; number < kSteps; ++number) {
      if (number == kWhen && transport->rank() == victim) act(scenario);
      step(*transport, number, number % 2 ? 50000 : 20);
    }
    if (scenario == "late" && transport->rank() == victim) sleep(2);
    std::cout << "done" << std::endl;
    return 0;
  } catch (const headrace::PeerError& error) {
    at_fault = error.peer;
    what = error.what();
  } catch (const std::exception& error) {
    what = error.what();
  }
  const headrace::Failure failure = transport->fail(at_fault, what);
  std::cout << "failed rank=" << failure.rank << " reported=" << failure.reported_here << ": "
            << failure.what << std::endl;
  return 1;
}

}  // namespace

int main(int, char** arguments) {
  return run(arguments[1], std::atoi(arguments[2]), std::atof(arguments[3]),
             std::atof(arguments[4]));
}
