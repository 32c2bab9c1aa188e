// The variables in which launchers tell a process its place, read strictly: nonsense is a
// UsageError that names the variable and its value.
#pragma once

#include <optional>
#include <string>

#include "headrace/transport/rendezvous/rendezvous.h"

namespace headrace {

std::optional<std::string> variable(const char* name);  // none: not set, or empty
// A UsageError where it is not set, although `because` is.
std::string required(const char* name, const char* because);
int number(const char* name, const std::string& value, int least, int most);
constexpr int kMaxRanks = 1 << 20;

// The names under which one launcher says it. The local ones may be null, or not set.
struct PlaceNames {
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
};
// Without a local size all ranks are taken to be on one host.
Rendezvous read_place(const PlaceNames& names);
// MASTER_ADDR and MASTER_PORT, or what follows from the job.
void read_address(Rendezvous& result, const std::string& default_address, int default_port);
// A port that all processes of a job come to without a word, out of the range that the system hands
// out itself (32768 and up).
int derived_port(const std::string& job);

// What each launcher says; none where it is silent.
std::optional<Rendezvous> from_torchrun();
std::optional<Rendezvous> from_mpi();
// `asked`: the user says that srun started this process, so that a step of one task is a run of one
// rank.
std::optional<Rendezvous> from_slurm(bool asked);

}  // namespace headrace
