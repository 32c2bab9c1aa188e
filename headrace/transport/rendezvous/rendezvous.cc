#include "headrace/transport/rendezvous/rendezvous.h"

#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/transport/rendezvous/launcher_variables.h"

namespace headrace {

namespace {

bool listens(int fd) {
  int value = 0;
  socklen_t length = sizeof value;
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value != 0;
}

// Launchers number their processes in one of these, though nothing here says how many there are.
// Each process would train a whole run of its own.
void refuse_unknown_launcher() {
  for (const char* name :
       {"PMI_ID", "PMIX_RANK", "MPI_LOCALRANKID", "MPIRUN_RANK", "MVP_COMM_WORLD_RANK",
        "PALS_RANKID", "ALPS_APP_PE", "FLUX_TASK_RANK", "JSM_NAMESPACE_RANK"}) {
    const auto value = variable(name);
    // Slurm's own, in a step of one task.
    const bool slurm = variable("PMIX_NAMESPACE").value_or("").starts_with("slurm.");
    if (!value || (slurm && std::string(name) == "PMIX_RANK")) continue;
    throw UsageError(cat(name, "=", *value,
                         ": a launcher has numbered this process, and does not say in a way known "
                         "here how many there are; set RANK, WORLD_SIZE, MASTER_ADDR and "
                         "MASTER_PORT for each process, or start with torchrun, mpirun or srun"));
  }
}

}  // namespace

std::optional<Rendezvous> from_torchrun() {
  if (!variable("RANK") && !variable("WORLD_SIZE")) return std::nullopt;
  Rendezvous result = read_place({"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"});
  required("MASTER_ADDR", "RANK");
  required("MASTER_PORT", "RANK");
  read_address(result, "", 0);
  const auto listen_fd = variable("HEADRACE_LISTEN_FD");
  if (variable("HEADRACE_WORKER") || listen_fd) {
    // torchrun's variables, if there are any, speak of the process that started this one.
    result.launcher = "headrace";
    if (result.rank > 0 || !listen_fd) return result;
    result.listen_fd = number("HEADRACE_LISTEN_FD", *listen_fd, 0, 1 << 20);
    check_usage(listens(result.listen_fd), "HEADRACE_LISTEN_FD=", *listen_fd,
                " is not a listening socket; it is set by headrace's own launcher only");
    return result;
  }
  result.launcher = variable("TORCHELASTIC_RUN_ID") ? "torchrun" : "environment";
  const std::string served = variable("TORCHELASTIC_USE_AGENT_STORE").value_or("");
  result.store_is_served = served == "True" || served == "true" || served == "1";
  result.is_restart = variable("TORCHELASTIC_RESTART_COUNT").value_or("0") != "0";
  return result;
}

std::optional<Rendezvous> rendezvous_from_environment(Launcher launcher) {
  std::optional<Rendezvous> place;
  if (launcher == Launcher::Any) {
    // Scripts export WORLD_SIZE for all, and leave each process's number to mpirun or srun.
    if (variable("RANK")) place = from_torchrun();
    if (!place) place = from_mpi();
    if (!place) place = from_slurm(false);
    if (!place) place = from_torchrun();
    if (!place) refuse_unknown_launcher();
    return place;
  }
  if (launcher == Launcher::Torchrun) place = from_torchrun();
  if (launcher == Launcher::Mpi) place = from_mpi();
  if (launcher == Launcher::Slurm) place = from_slurm(true);
  check_usage(place.has_value(), "this process was not started by ",
              launcher == Launcher::Torchrun ? "torchrun: RANK and WORLD_SIZE are not set"
              : launcher == Launcher::Mpi
                  ? "mpirun or mpiexec: none of OMPI_COMM_WORLD_RANK, PMI_RANK and "
                    "MV2_COMM_WORLD_RANK is set"
                  : "srun: SLURM_PROCID is not set");
  return place;
}

Listening listen_on_free_port() {
  Listening result;
  const auto succeed = [](bool ok, const char* step) {
    check(ok, "cannot ", step, " a port of 127.0.0.1 for the run: ", std::strerror(errno));
  };
  result.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  succeed(result.fd >= 0, "open");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  const bool ok = bind(result.fd, generic, length) == 0 && listen(result.fd, 2048) == 0 &&
                  getsockname(result.fd, generic, &length) == 0;
  if (!ok) close(result.fd);
  succeed(ok, "listen on");
  result.port = ntohs(address.sin_port);
  return result;
}

}  // namespace headrace
