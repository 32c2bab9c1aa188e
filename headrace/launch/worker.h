// What a worker process owes the launcher that started it (headrace/launch/launch.h). All of it does
// nothing harmful in a process that was started by torchrun, mpirun or by hand.
#pragma once

#include <string>

namespace headrace {

// Whether our launcher started this process.
bool is_worker();

// The run's folder, as our launcher says; empty where it says none.
std::string run_dir_of_launcher();

// How often our launcher has started this run anew after a failure.
int restarts_by_launcher();

// To be called first: this process then dies with its launcher, however that one ends.
void bind_to_launcher();

// Hands the launcher the text of the failure that ends this process, or prints it as `error: …`
// where there is no launcher. `at_fault` is the rank that it lays the blame on: this one, or a peer
// that was lost. The first call counts. Safe from any thread.
void report_error(const std::string& text, int at_fault, int exit_code = 1);

// SIGTERM and SIGUSR1 (and SIGINT, where there is no launcher to pass it on) then only set
// stop_requested(), for the training loop to end after the step in hand. A worker that ends for that exits with
// kStoppedExit, which the launcher does not take for a failure.
constexpr int kStoppedExit = 143;  // as a shell writes SIGTERM
void install_stop_handler();
bool stop_requested();

}  // namespace headrace
