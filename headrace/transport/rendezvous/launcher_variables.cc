#include "headrace/transport/rendezvous/launcher_variables.h"

#include <charconv>
#include <cstdlib>
#include <system_error>

#include "headrace/base/error.h"
#include "headrace/base/keyed.h"

namespace headrace {

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

Rendezvous read_place(const PlaceNames& names) {
  const std::string size = required(names.size, names.rank);
  const std::string rank = required(names.rank, names.size);
  Rendezvous result;
  result.size = number(names.size, size, 1, kMaxRanks);
  result.rank = number(names.rank, rank, 0, kMaxRanks);
  result.said = cat(names.rank, "=", rank, ", ", names.size, "=", size);
  check_usage(result.rank < result.size, names.rank, "=", rank, " is out of range: ", names.size,
              "=", size, " has ranks 0 to ", result.size - 1);
  const auto local_size = names.local_size ? variable(names.local_size) : std::nullopt;
  result.local_size =
      local_size ? number(names.local_size, *local_size, 1, kMaxRanks) : result.size;
  const auto local_rank = names.local_rank ? variable(names.local_rank) : std::nullopt;
  result.local_rank = local_rank ? number(names.local_rank, *local_rank, 0, kMaxRanks)
                                 : result.rank % result.local_size;
  check_usage(!local_size || result.local_rank < result.local_size,
              names.local_rank ? names.local_rank : names.rank, "=", result.local_rank,
              " is out of range: ", names.local_size ? names.local_size : "", "=",
              result.local_size);
  return result;
}

void read_address(Rendezvous& result, const std::string& default_address, int default_port) {
  result.address = variable("MASTER_ADDR").value_or(default_address);
  const auto port = variable("MASTER_PORT");
  result.port = port ? number("MASTER_PORT", *port, 1, 65535) : default_port;
}

int derived_port(const std::string& job) {
  return static_cast<int>(15000 + keyed(0, job) % 15000);
}

}  // namespace headrace
