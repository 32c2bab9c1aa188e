// What MPI's launchers say: mpirun, mpiexec and their like.
#include <array>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/transport/rendezvous/launcher_variables.h"

namespace headrace {

namespace {

struct Family {
  const char* launcher;
  PlaceNames names;
  const char* pass;  // how its command line gives MASTER_ADDR to all processes
};

constexpr std::array<Family, 4> kFamilies = {
    {{"mpirun",  // Open MPI
      {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
       "OMPI_COMM_WORLD_LOCAL_SIZE"},
      "-x %="},
     {"mpirun",  // MVAPICH
      {"MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK",
       "MV2_COMM_WORLD_LOCAL_SIZE"},
      "-genv % "},
     {"mpiexec",  // Hydra: MPICH and Intel MPI
      {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
      "-genv % "},
     {"mpiexec",  // others that start MPICH's programs, as Cray's
      {"PMI_RANK", "PMI_SIZE", "PMI_LOCAL_RANK", "PMI_LOCAL_SIZE"},
      "--env %="}}};

std::string pass(const Family& family, const std::string& name, const std::string& value) {
  const std::string form = family.pass;
  const std::size_t at = form.find('%');
  return cat("add ", form.substr(0, at), name, form.substr(at + 1), value, " to ", family.launcher);
}

// srun speaks PMI too, but says more in its own variables. Slurm gives the job that it means.
bool pmi_is_slurms() {
  const auto job = variable("PMI_JOBID");
  return job && !variable("MPI_LOCALRANKID") &&
         *job == cat(variable("SLURM_JOB_ID").value_or(""), ".",
                     variable("SLURM_STEP_ID").value_or(""));
}

const Family* family_here() {
  const Family* found = nullptr;
  for (const Family& family : kFamilies) {
    if (!variable(family.names.rank) && !variable(family.names.size)) continue;
    // Of two with the same names, the one whose local names are there.
    if (found == nullptr || variable(family.names.local_size)) found = &family;
    if (variable(found->names.local_size)) break;
  }
  const bool pmi = found != nullptr && std::string(found->names.rank) == "PMI_RANK";
  return pmi && pmi_is_slurms() ? nullptr : found;
}

bool was_given(pid_t pid, const std::string& name) {
  std::ifstream file(cat("/proc/", pid, "/environ"), std::ios::binary);
  for (std::string entry; std::getline(file, entry, '\0');)
    if (entry.starts_with(name + "=")) return true;
  return false;
}

pid_t parent_of(pid_t pid) {
  std::ifstream file(cat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(file, text);
  // The name, in brackets, may hold anything.
  std::istringstream rest(text.substr(text.rfind(')') + 1));
  std::string state;
  pid_t parent = 0;
  rest >> state >> parent;
  return parent;
}

// The nearest ancestor that was not given a rank: the launcher's process of this host, for all of
// its ranks the same, even where each is started by a script of its own.
pid_t launching_process(const char* rank_name) {
  pid_t pid = getppid();
  while (pid > 1 && was_given(pid, rank_name)) pid = parent_of(pid);
  return pid;
}

// A name that all processes of the job have; none where the launcher gives none.
std::optional<std::string> job_name() {
  std::optional<std::string> job;
  for (const char* name : {"OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_nspace"})
    if (const auto value = variable(name)) job = *value;
  return job;
}

}  // namespace

std::optional<Rendezvous> from_mpi() {
  const Family* const family = family_here();
  if (family == nullptr) return std::nullopt;
  Rendezvous result = read_place(family->names);
  result.launcher = family->launcher;
  const bool says_local = variable(family->names.local_size).has_value();
  const bool one_host = result.size == 1 || (says_local && result.local_size == result.size);
  check_usage(one_host || variable("MASTER_ADDR"), "MASTER_ADDR is not set, and the ", result.size,
              " ranks ", says_local ? "run" : "may run", " on several hosts; ",
              pass(*family, "MASTER_ADDR", "<host of rank 0>"));
  const bool open_mpi = family == kFamilies.data();
  const auto job = open_mpi ? job_name() : std::nullopt;
  check_usage(one_host || variable("MASTER_PORT") || job,
              "MASTER_PORT is not set, and the job has no name that all hosts share; ",
              pass(*family, "MASTER_PORT", "<a free port on the host of rank 0>"));
  read_address(result, "127.0.0.1",
               derived_port(job ? *job : cat("process ", launching_process(family->names.rank))));
  return result;
}

}  // namespace headrace
