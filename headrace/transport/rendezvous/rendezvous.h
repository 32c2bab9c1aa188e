// How the processes of one run find each other: what the launcher said, read from the environment.
//
//   const auto place = rendezvous_from_environment();   // none: this process was not launched
//   if (place) transport = c10d_transport(*place, 60);
//
// A launcher that said half of what is needed, or nonsense, is a UsageError that names the variable
// and its value.
#pragma once

#include <optional>
#include <string>

namespace headrace {

struct Rendezvous {
  int rank = 0;
  int size = 1;
  int local_rank = 0;  // among the ranks of this host
  int local_size = 1;
  std::string address = "127.0.0.1";  // where the run's store listens
  int port = 0;
  int listen_fd = -1;             // rank 0: a socket that already listens there; -1: open one
  bool store_is_served = false;   // by the launcher: rank 0 is a client like the others
  bool share_memory = true;       // with ranks of this host, for small messages
  bool is_restart = false;        // the launcher's word on this host: not the first start
  std::string launcher = "none";  // "torchrun", "mpirun", "mpiexec", "srun", "headrace", …
  std::string said;               // by it: "SLURM_PROCID=0, SLURM_STEP_NUM_TASKS=2"
};

enum class Launcher { Any, Torchrun, Mpi, Slurm };

// Reads, in this order,
//   RANK WORLD_SIZE MASTER_ADDR MASTER_PORT [LOCAL_RANK LOCAL_WORLD_SIZE]: torchrun, our own
//     launcher, or by hand;
//   OMPI_COMM_WORLD_* (Open MPI), PMI_RANK PMI_SIZE (MPICH, Intel MPI and others that start as they
//     do), MV2_COMM_WORLD_* (MVAPICH);
//   SLURM_PROCID SLURM_STEP_NUM_TASKS: a step of srun. A batch script and a step of one task, as
//     `srun --pty bash` makes it, are places to start a run from, not ranks of one.
// Under the last two MASTER_ADDR and MASTER_PORT are optional where they follow from the job.
// A process that some other launcher has numbered is refused: others would run beside it, each a
// whole run. With another `launcher` than Any only that one's variables are read, and must be
// there.
std::optional<Rendezvous> rendezvous_from_environment(Launcher launcher = Launcher::Any);

// The first host of Slurm's short form: "gpu[07-09,12],login" -> "gpu07".
std::string first_host(const std::string& slurm_list);

// A socket that listens on 127.0.0.1 at a port that was free. A launcher gives it to rank 0 (by
// HEADRACE_LISTEN_FD), so that no other process can take the port in between. The descriptor is
// closed on exec: dup2 it in the child that is to have it, and only there.
struct Listening {
  int fd = -1;
  int port = 0;
};
Listening listen_on_free_port();

}  // namespace headrace
