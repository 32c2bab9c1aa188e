#include "headrace/transport/c10d/open_store.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <thread>

#include <netdb.h>
#include <sys/socket.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/transport/c10d/state.h"

namespace headrace {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

Milliseconds milliseconds(double seconds) {
  return std::chrono::duration_cast<Milliseconds>(std::chrono::duration<double>(seconds));
}

std::string unreachable(const Rendezvous& place, double limit) {
  return cat("rank ", place.rank, " cannot reach the run's store at ", where(place),
             " (MASTER_ADDR, MASTER_PORT) within ", fixed_text(limit, 1),
             " s: rank 0 is to listen there; does it run, and is the port not another program's?");
}

// Waits until something listens where the store is to be.
void await_listener(const Rendezvous& place, double limit) {
  const auto end = Clock::now() + milliseconds(limit);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(place.address.c_str(), std::to_string(place.port).c_str(), &hints, &found);
  check(failed == 0, "cannot resolve MASTER_ADDR=", place.address, ": ", gai_strerror(failed));
  bool listens = false;
  while (!listens && Clock::now() < end) {
    for (const addrinfo* each = found; each != nullptr && !listens; each = each->ai_next) {
      const int fd = socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fd < 0) continue;
      listens = ::connect(fd, each->ai_addr, each->ai_addrlen) == 0;
      close(fd);
    }
    if (!listens) std::this_thread::sleep_for(Milliseconds(50));
  }
  freeaddrinfo(found);
}

// A store answers as soon as it listens; another program that has the port never does, and TCPStore
// would wait for it without end. Only our own launcher listens for rank 0 before rank 0 is there.
double answer_limit(const Rendezvous& place, double limit) {
  constexpr double kAnswer = 5;
  return place.launcher == "headrace" ? limit : std::min(limit, kAnswer);
}

std::string port_in_use(const Rendezvous& place) {
  return cat("cannot listen on ", where(place),
             ": another process uses the port; set MASTER_PORT to a free one");
}

c10::intrusive_ptr<c10d::Store> connect(const Rendezvous& place, double limit) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(place.port);
  options.isServer = place.rank == 0 && !place.store_is_served;
  options.waitWorkers = false;
  options.timeout = milliseconds(limit);
  if (options.isServer && place.listen_fd >= 0) options.masterListenFd = place.listen_fd;
  try {
    auto store = c10::make_intrusive<c10d::TCPStore>(place.address, options);
    store->setTimeout(milliseconds(kStoreLimit));
    // A launcher's may have keys of its own.
    return c10::make_intrusive<c10d::PrefixStore>("headrace", store);
  } catch (const std::exception& error) {
    const std::string why = brief(error);
    check(why.find("EADDRINUSE") == std::string::npos, port_in_use(place));
    check(!options.isServer, "rank 0 cannot serve the run's store at ", where(place),
          " (MASTER_ADDR, MASTER_PORT): ", why);
    throw Error(cat(unreachable(place, limit), " (", why, ")"));
  }
}

// A socket that listens at the run's port of this address alone; -1: the address is not one of this host's.
int listen_on(const std::string& address, const Rendezvous& place) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_PASSIVE;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.c_str(), std::to_string(place.port).c_str(), &hints, &found) != 0)
    return -1;
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const bool listens =
      ::bind(fd, found->ai_addr, found->ai_addrlen) == 0 && ::listen(fd, SOMAXCONN) == 0;
  const int why = errno;
  freeaddrinfo(found);
  if (listens) return fd;
  close(fd);
  check(why != EADDRINUSE, port_in_use(place));
  return -1;
}

// -1: on all addresses.
int listen_for_store(const Rendezvous& place, const std::vector<Interface>& interfaces) {
  if (is_loopback(place.address)) return listen_on(place.address, place);
  if (interfaces.empty()) return -1;
  const std::string own = local_address(place);
  for (const Interface& each : interfaces)
    if (each.address == own) return listen_on(own, place);
  return -1;
}

}  // namespace

std::string where(const Rendezvous& place) {
  return cat(place.address, ":", place.port);
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

std::string silent_store(const Rendezvous& place) {
  return cat("the run's store at ", where(place), " (MASTER_ADDR, MASTER_PORT) does not answer");
}

std::string local_address(const Rendezvous& place) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(place.address.c_str(), std::to_string(place.port).c_str(), &hints, &found);
  check(failed == 0, "cannot resolve MASTER_ADDR=", place.address, ": ", gai_strerror(failed));
  std::string result;
  for (const addrinfo* each = found; each != nullptr && result.empty(); each = each->ai_next) {
    const int fd = socket(each->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    sockaddr_storage own{};
    socklen_t length = sizeof own;
    std::array<char, NI_MAXHOST> text{};
    auto* const generic = reinterpret_cast<sockaddr*>(&own);
    if (::connect(fd, each->ai_addr, each->ai_addrlen) == 0 &&
        getsockname(fd, generic, &length) == 0 &&
        getnameinfo(generic, length, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) == 0)
      result = text.data();
    close(fd);
  }
  freeaddrinfo(found);
  check(!result.empty(), "rank ", place.rank, " has no way to ", place.address,
        "; set MASTER_ADDR to an address of rank 0's host that all hosts reach");
  return result;
}

void open_store(StoreThread& store_thread,
                const Rendezvous& as_told,
                const std::vector<Interface>& interfaces,
                double limit) {
  Rendezvous place = as_told;
  const bool serves = place.rank == 0 && !place.store_is_served;
  double answer = limit + 1;
  if (serves) {
    if (place.listen_fd < 0) place.listen_fd = listen_for_store(place, interfaces);
  } else {
    const auto begin = Clock::now();
    await_listener(place, limit);
    const double waited = std::chrono::duration<double>(Clock::now() - begin).count();
    answer = answer_limit(place, std::max(0.1, limit - waited));
  }
  store_thread.open([=] { return connect(place, limit); }, answer, unreachable(place, answer));
}

}  // namespace headrace
