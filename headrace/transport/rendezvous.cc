#include "headrace/transport/rendezvous.h"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/base/keyed.h"
#include "headrace/base/text.h"

namespace headrace {

namespace {

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

std::string required(const char* name, const char* because) {
  const auto value = variable(name);
  check_usage(value.has_value(), name, " is not set although ", because,
              " is; start with torchrun, mpirun or srun, or set all of what it needs");
  return *value;
}

int number(const char* name, const std::string& value, int least, int most) {
  int result = 0;
  const char* end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, result);
  check_usage(error == std::errc() && rest == end, name, "=", value, " is not a whole number");
  check_usage(result >= least && result <= most, name, "=", value, " is not between ", least,
              " and ", most);
  return result;
}

constexpr int kMaxRanks = 1 << 20;

// The names under which a launcher tells a process its place.
struct Names {
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
};

Rendezvous place(const Names& names) {
  const auto rank = variable(names.rank);
  Rendezvous result;
  result.size = number(names.size, required(names.size, names.rank), 1, kMaxRanks);
  result.rank = number(names.rank, required(names.rank, names.size), 0, kMaxRanks);
  check_usage(result.rank < result.size, names.rank, "=", *rank, " is out of range: ", names.size,
              "=", result.size, " has ranks 0 to ", result.size - 1);
  const auto local_size = names.local_size ? variable(names.local_size) : std::nullopt;
  result.local_size =
      local_size ? number(names.local_size, *local_size, 1, kMaxRanks) : result.size;
  const auto local_rank = variable(names.local_rank);
  result.local_rank = local_rank ? number(names.local_rank, *local_rank, 0, kMaxRanks)
                                 : result.rank % result.local_size;
  check_usage(!local_size || result.local_rank < result.local_size, names.local_rank, "=",
              result.local_rank, " is out of range: ", names.local_size ? names.local_size : "",
              "=", result.local_size);
  return result;
}

// A port that all processes of a job come to without a word, out of the range that the system hands
// out itself (32768 and up).
int derived_port(const std::string& job) {
  return static_cast<int>(15000 + keyed(0, job) % 15000);
}

void read_address(Rendezvous& result, const std::string& default_address, int default_port) {
  result.address = variable("MASTER_ADDR").value_or(default_address);
  const auto port = variable("MASTER_PORT");
  result.port = port ? number("MASTER_PORT", *port, 1, 65535) : default_port;
}

bool listens(int fd) {
  int value = 0;
  socklen_t length = sizeof value;
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value != 0;
}

Rendezvous from_torchrun() {
  Rendezvous result = place({"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"});
  required("MASTER_ADDR", "RANK");
  required("MASTER_PORT", "RANK");
  read_address(result, "", 0);
  result.launcher = variable("TORCHELASTIC_RUN_ID") ? "torchrun" : "environment";
  const std::string served = variable("TORCHELASTIC_USE_AGENT_STORE").value_or("");
  result.store_is_served = served == "True" || served == "true" || served == "1";
  result.attempt = variable("TORCHELASTIC_RESTART_COUNT").value_or("0");
  if (variable("HEADRACE_WORKER")) result.launcher = "headrace";
  if (const auto fd = variable("HEADRACE_LISTEN_FD")) {
    result.launcher = "headrace";
    if (result.rank == 0) {
      result.listen_fd = number("HEADRACE_LISTEN_FD", *fd, 0, 1 << 20);
      check_usage(listens(result.listen_fd), "HEADRACE_LISTEN_FD=", *fd,
                  " is not a listening socket; it is set by headrace's own launcher only");
    }
  }
  return result;
}

Rendezvous from_open_mpi() {
  Rendezvous result = place({"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                             "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"});
  result.launcher = "mpirun";
  const bool one_host = result.local_size == result.size;
  check_usage(one_host || variable("MASTER_ADDR"), "MASTER_ADDR is not set, and the ", result.size,
              " ranks run on several hosts; add -x MASTER_ADDR=<host of rank 0> to "
              "mpirun");
  // On one host all ranks are children of the same process, should the job have no name.
  std::string job = cat("parent ", getppid());
  for (const char* name : {"OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_nspace"})
    if (const auto value = variable(name)) job = *value;
  check_usage(one_host || variable("MASTER_PORT") || job.rfind("parent ", 0) != 0,
              "MASTER_PORT is not set, and the job has no name that all hosts share; add "
              "-x MASTER_PORT=<a free port on the host of rank 0> to mpirun");
  read_address(result, "127.0.0.1", derived_port(job));
  return result;
}

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

Rendezvous from_slurm() {
  const bool step = variable("SLURM_STEP_NUM_TASKS").has_value();
  Rendezvous result = place(
      {"SLURM_PROCID", step ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS", "SLURM_LOCALID", nullptr});
  result.launcher = "srun";
  const std::string hosts =
      variable("SLURM_STEP_NUM_NODES").value_or(variable("SLURM_NNODES").value_or(""));
  const bool one_host = hosts == "1";
  if (const auto tasks = variable("SLURM_STEP_TASKS_PER_NODE"); tasks && !one_host)
    result.local_size = tasks_of_host(*tasks, variable("SLURM_NODEID").value_or("0"));
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

}  // namespace

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

std::optional<Rendezvous> rendezvous_from_environment() {
  if (variable("RANK") || variable("WORLD_SIZE")) return from_torchrun();
  if (variable("OMPI_COMM_WORLD_RANK") || variable("OMPI_COMM_WORLD_SIZE")) return from_open_mpi();
  // A shell inside an allocation has the job's variables, but only srun gives a process a number.
  if (variable("SLURM_PROCID")) return from_slurm();
  return std::nullopt;
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
