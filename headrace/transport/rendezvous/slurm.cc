// What Slurm says. srun starts a step of one task or more, and numbers them. A batch script is no
// step, though it has SLURM_PROCID=0 and the allocation's SLURM_NTASKS; a shell of `srun --pty
// bash` is one, mostly of one task. In both people start a run, rather than are a rank of one.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>

#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/transport/rendezvous/launcher_variables.h"

namespace headrace {

namespace {

// "2(x3),1": 2 tasks on each of hosts 0 to 2, 1 on host 3.
int tasks_of_host(const std::string& short_form, const std::string& host_text) {
  int host = number("SLURM_NODEID", host_text, 0, kMaxRanks);
  for (const std::string& part : split_text(short_form, ',')) {
    const std::size_t times = part.find("(x");
    const int tasks = number("SLURM_STEP_TASKS_PER_NODE", part.substr(0, times), 1, kMaxRanks);
    host -= times == std::string::npos ? 1 : std::atoi(part.c_str() + times + 2);
    if (host < 0) return tasks;
  }
  throw UsageError(
      cat("SLURM_STEP_TASKS_PER_NODE=", short_form, " does not reach SLURM_NODEID=", host_text));
}

std::optional<int> tasks_of_this_host() {
  const auto tasks = variable("SLURM_STEP_TASKS_PER_NODE");
  if (!tasks) return std::nullopt;
  return tasks_of_host(*tasks, variable("SLURM_NODEID").value_or("0"));
}

// A job that is submitted from within a step takes that step's variables along. Slurm sets the list
// of a host's tasks anew for a batch script, so that the two then differ.
bool step_is_another_jobs() {
  const auto here = variable("SLURM_GTIDS");
  const auto tasks = tasks_of_this_host();
  return here && tasks && std::count(here->begin(), here->end(), ',') + 1 != *tasks;
}

// A process that the first task's shell on a terminal has started: the other tasks may be shells
// that have ended at once, or the same program.
bool may_be_a_shells() {
  const auto task = variable("SLURM_TASK_PID");
  return variable("SLURM_PTY_PORT") && task && *task != std::to_string(getpid());
}

}  // namespace

std::optional<Rendezvous> from_slurm(bool asked) {
  if (!variable("SLURM_PROCID")) return std::nullopt;
  const auto tasks = variable("SLURM_STEP_NUM_TASKS");
  if (!asked && (!tasks || *tasks == "1" || step_is_another_jobs())) return std::nullopt;
  check_usage(
      tasks.has_value(),
      "SLURM_STEP_NUM_TASKS is not set although SLURM_PROCID is: this is a batch script and "
      "no task of a step; start the ranks with srun");
  Rendezvous result =
      read_place({"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr});
  result.launcher = "srun";
  check_usage(asked || !may_be_a_shells(), result.said,
              ": this process was started from a shell of srun --pty, and whether the shell's step "
              "of ",
              result.size, " tasks is meant to be the run's ranks cannot be seen");
  const std::string hosts =
      variable("SLURM_STEP_NUM_NODES").value_or(variable("SLURM_NNODES").value_or(""));
  const bool one_host = hosts == "1";
  if (!one_host) result.local_size = tasks_of_this_host().value_or(result.size);
  const auto nodes = variable("SLURM_STEP_NODELIST") ? variable("SLURM_STEP_NODELIST")
                                                     : variable("SLURM_JOB_NODELIST");
  const auto launch = variable("SLURM_LAUNCH_NODE_IPADDR");
  check_usage(one_host || launch || nodes || variable("MASTER_ADDR"),
              "SLURM_JOB_NODELIST is not set although SLURM_PROCID is; set MASTER_ADDR to the host "
              "of rank 0");
  std::string job = variable("SLURM_JOB_ID").value_or("");
  check_usage(!job.empty() || variable("MASTER_PORT"),
              "SLURM_JOB_ID is not set although SLURM_PROCID is; set MASTER_PORT to a free port on "
              "the host of rank 0");
  job += "." + variable("SLURM_STEP_ID").value_or("0");
  // The launch node comes last: where srun is called on a login node, rank 0 is elsewhere.
  std::string address = "127.0.0.1";
  if (!one_host) address = nodes ? first_host(*nodes) : launch.value_or(address);
  read_address(result, address, derived_port(job));
  return result;
}

std::string first_host(const std::string& slurm_list) {
  std::string host;
  for (std::size_t i = 0; i < slurm_list.size() && slurm_list[i] != ','; ++i) {
    if (slurm_list[i] != '[') {
      host += slurm_list[i];
      continue;
    }
    const std::size_t end = slurm_list.find(']', i);
    check_usage(end != std::string::npos, "SLURM_JOB_NODELIST=", slurm_list, " lacks a ]");
    const std::size_t stop = slurm_list.find_first_of(",-]", i);
    host += slurm_list.substr(i + 1, stop - i - 1);
    i = end;
  }
  check_usage(!host.empty(), "SLURM_JOB_NODELIST=", slurm_list, " names no host");
  return host;
}

}  // namespace headrace
