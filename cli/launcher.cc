#include "cli/launcher.h"

#include "headrace/base/error.h"
#include "headrace/launch/worker.h"

namespace headrace {
namespace {

Rendezvous alone() {
  const Listening listening = listen_on_free_port();
  Rendezvous place;
  place.port = listening.port;
  place.listen_fd = listening.fd;
  place.launcher = "--launcher none";
  return place;
}

}  // namespace

const std::vector<std::string>& launcher_names() {
  static const std::vector<std::string> names = {"auto", "local", "torchrun",
                                                 "mpi",  "slurm", "none"};
  return names;
}

std::optional<Rendezvous> place_in_run(const std::string& launcher) {
  if (is_worker()) return rendezvous_from_environment(Launcher::Torchrun);
  if (launcher == "local") return std::nullopt;
  if (launcher == "none") return alone();
  try {
    return rendezvous_from_environment(launcher == "torchrun" ? Launcher::Torchrun
                                       : launcher == "mpi"    ? Launcher::Mpi
                                       : launcher == "slurm"  ? Launcher::Slurm
                                                              : Launcher::Any);
  } catch (const UsageError& error) {
    throw UsageError(cat(error.what(),
                         "; with --launcher local this process starts all ranks itself, on this "
                         "host",
                         launcher == "auto" ? ", and --launcher torchrun, mpi or slurm says that "
                                              "it is a rank, started by that one"
                                            : ""));
  }
}

std::string started_by(const Rendezvous& place) {
  return place.said.empty() ? place.launcher : cat(place.launcher, ": ", place.said);
}

}  // namespace headrace
