// --launcher: whether this process is a rank that some launcher has started, or starts the ranks
// itself.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "headrace/transport/rendezvous/rendezvous.h"

namespace headrace {

// "auto", "local", "torchrun", "mpi", "slurm", "none".
const std::vector<std::string>& launcher_names();

// This process's place in a run that is being started; none: it is to start the ranks. "auto" goes
// by what launchers say in the environment, "none" makes this process the only rank. A worker of
// our own launcher is one whatever the name. Throws UsageError where the launcher says half or
// nonsense, with the ways out.
std::optional<Rendezvous> place_in_run(const std::string& launcher);

// "srun: SLURM_PROCID=0, SLURM_STEP_NUM_TASKS=2": who started this process, and said so where.
std::string started_by(const Rendezvous& place);

}  // namespace headrace
