#include "headrace/transport/c10d/start.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <thread>

#include <c10/util/Logging.h>
#include <netdb.h>
#include <signal.h>
#include <sys/socket.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <unistd.h>

#include "headrace/base/text.h"
#include "headrace/transport/c10d/nccl.h"
#include "headrace/transport/c10d/round.h"
#include "headrace/transport/rendezvous/interfaces.h"

namespace headrace {

namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

Milliseconds milliseconds(double seconds) {
  return std::chrono::duration_cast<Milliseconds>(std::chrono::duration<double>(seconds));
}

std::string where(const Rendezvous& place) {
  return cat(place.address, ":", place.port);
}

// Errors of c10d that we expect reach the user as one message of ours, not twice.
void silence_c10d() {
  static std::once_flag once;  // ranks may be threads
  std::call_once(once, [] {
    if (!std::getenv("TORCH_CPP_LOG_LEVEL") && !std::getenv("TORCH_DISTRIBUTED_DEBUG"))
      FLAGS_caffe2_log_level = c10::GLOG_FATAL;
  });
}

// Writing to a peer that is gone must fail with an error, not end this process. Neither Gloo nor
// the store see to that; Python, which they were made for, ignores the signal from its start.
void ignore_broken_pipes() {
  struct sigaction now{};
  if (::sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL)
    ::signal(SIGPIPE, SIG_IGN);
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

// The address from which this host reaches the store: the one to announce to the others. No packet
// is sent for it.
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

// Two ranks whose `boot` is the same share a host's clock; with the same network, its loopback.
std::string boot_id() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

std::string network_id() {
  std::array<char, 64> text{};
  const auto length = readlink("/proc/self/ns/net", text.data(), text.size());
  return cat(boot_id(), " ",
             std::string(text.data(), length > 0 ? static_cast<std::size_t>(length) : 0));
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
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

// Where rank 0's store listens: on the interface that GLOO_SOCKET_IFNAME has chosen, if MASTER_ADDR is there, or
// on loopback, if MASTER_ADDR is that. Else (-1) on all, as others may know this host by another address.
int listen_for_store(const Rendezvous& place, const std::vector<Interface>& interfaces) {
  if (is_loopback(place.address)) return listen_on(place.address, place);
  if (interfaces.empty()) return -1;
  const std::string own = local_address(place);
  for (const Interface& each : interfaces)
    if (each.address == own) return listen_on(own, place);
  return -1;
}

std::string missing(const Rendezvous& place, int rank) {
  return cat("rank ", rank, " of ", place.size, " has not joined rank ", place.rank, " at ",
             where(place));
}

std::string silent_store(const Rendezvous& place) {
  return cat("the run's store at ", where(place), " (MASTER_ADDR, MASTER_PORT) does not answer");
}

// Rank 0's list for the others, in one key: P ranks ask for one text each, not for P.
std::string pack(const std::vector<std::string>& texts) {
  std::string packed;
  for (const std::string& text : texts) packed += cat(text.size(), ':', text);
  return packed;
}

std::vector<std::string> unpack(const std::string& packed) {
  std::vector<std::string> texts;
  for (std::size_t at = 0; at < packed.size();) {
    const std::size_t colon = packed.find(':', at);
    const std::size_t size = std::stoul(packed.substr(at, colon - at));
    texts.push_back(packed.substr(colon + 1, size));
    at = colon + 1 + size;
  }
  return texts;
}

// Puts up this rank's text under a name and collects the others'.
std::vector<std::string> exchange(const Rendezvous& place,
                                  StoreThread& store_thread,
                                  const std::string& name,
                                  const std::string& own,
                                  double limit,
                                  double set_limit) {
  const auto texts = std::make_shared<std::vector<std::string>>();
  const auto key_of = [name](int rank) { return cat(name, "/", rank); };
  // Many ranks ask less often each.
  const auto pause = Milliseconds(10 + place.size / 4);
  store_thread.must(
      [=](c10d::Store& store) {
        const auto begin = Clock::now(), end = begin + milliseconds(limit);
        int absent = 0;  // the first rank that has not come
        bool has_looked = false;
        // Until it is there. Who is late is looked for when the wait is long: it takes a question for each rank.
        const auto await = [&](const std::string& key) {
          for (auto now = begin; !store.check({key}); now = Clock::now()) {
            has_looked = has_looked || now > begin + (end - begin) / 4;
            while (has_looked && absent < place.size && store.check({key_of(absent)})) ++absent;
            check(now < end, missing(place, absent % place.size), " within ",
                  fixed_text(set_limit, 1),
                  " s; is it running, and with the same MASTER_ADDR and MASTER_PORT?");
            std::this_thread::sleep_for(pause);
          }
          return store.get_to_str(key);
        };
        try {
          store.set(key_of(place.rank), own);
          const std::string all = cat(name, "/all");
          if (place.rank > 0) {
            *texts = unpack(await(all));
            return;
          }
          for (int rank = 0; rank < place.size; ++rank) texts->push_back(await(key_of(rank)));
          store.set(all, pack(*texts));
        } catch (const c10::Error&) {
          throw Error(cat(has_looked ? missing(place, absent % place.size)
                                     : cat("not all ranks have joined rank 0 at ", where(place)),
                          " (MASTER_ADDR, MASTER_PORT) before the run's store closed; its server, "
                          "rank 0, has given up"));
        }
      },
      limit + kStoreLimit, silent_store(place));
  return *texts;
}

// Checks that the ranks, as they were started, make one run.
std::vector<Introduction> introduce(const Rendezvous& place,
                                    StoreThread& store_thread,
                                    const std::string& address,
                                    const std::string& rings,
                                    double limit,
                                    double set_limit) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const std::string own = join_text(
      {std::to_string(place.size), host.data(), boot_id(), network_id(), address, rings}, "\n");
  store_thread.must(
      [=](c10d::Store& store) {
        check(store.add(cat("joined/", place.rank), 1) == 1, "two processes are rank ", place.rank,
              " of the run at ", where(place),
              "; start each rank once, or set MASTER_PORT to a port of this run's own");
      },
      limit + kStoreLimit, silent_store(place));
  const std::vector<std::string> texts =
      exchange(place, store_thread, "introduction", own, limit, set_limit);
  std::vector<Introduction> introductions;
  std::vector<std::string> networks;
  for (const std::string& text : texts) {
    const std::vector<std::string> parts = split_text(text, '\n');
    assert(parts.size() == 6);
    check(parts[0] == std::to_string(place.size), "rank ", introductions.size(), " was told of ",
          parts[0], " ranks, and rank ", place.rank, " of ", place.size,
          "; start all with the same WORLD_SIZE");
    introductions.push_back({parts[1], parts[2], parts[4], parts[5]});
    networks.push_back(parts[3]);
  }
  for (std::size_t a = 0; a < networks.size(); ++a)
    for (std::size_t b = 0; b < networks.size(); ++b)
      check(networks[a] == networks[b] || !is_loopback(introductions[a].address), "rank ", a,
            " (host ", introductions[a].host, ") announces ", introductions[a].address,
            ", which rank ", b, " (host ", introductions[b].host,
            ") cannot reach; set GLOO_SOCKET_IFNAME on ", introductions[a].host,
            " to the network interface that joins the hosts");
  return introductions;
}

// Attaches the shared rings of all ranks whose memory this one can reach, and that can reach its.
std::vector<bool> share_memory(const Rendezvous& place,
                               StoreThread& store_thread,
                               const std::vector<Introduction>& introductions,
                               SharedRings& rings,
                               double limit,
                               double set_limit) {
  const auto size = static_cast<std::size_t>(place.size);
  const auto own_rank = static_cast<std::size_t>(place.rank);
  std::string own(size, '-');
  for (std::size_t r = 0; r < size; ++r)
    if (r != own_rank && introductions[r].boot == introductions[own_rank].boot &&
        rings.attach(static_cast<int>(r), introductions[r].rings))
      own[r] = '+';
  const std::vector<std::string> attached =
      exchange(place, store_thread, "attached", own, limit, set_limit);
  std::vector<bool> both(size);
  for (std::size_t r = 0; r < size; ++r) both[r] = own[r] == '+' && attached[r][own_rank] == '+';
  return both;
}

}  // namespace

Started start_c10d(const Rendezvous& as_told, double limit, torch::Device device) {
  Rendezvous place = as_told;
  silence_c10d();
  ignore_broken_pipes();
  const std::vector<Interface> interfaces = chosen_interfaces();
  const auto begin = Clock::now();
  const auto rest = [&] {
    return std::max(0.1, limit - std::chrono::duration<double>(Clock::now() - begin).count());
  };
  Started started;
  started.store_thread = std::make_unique<StoreThread>();
  double answer = limit + 1;
  if (place.rank == 0 && !place.store_is_served && place.listen_fd < 0)
    place.listen_fd = listen_for_store(place, interfaces);
  if (place.rank > 0 || place.store_is_served) {
    await_listener(place, limit);
    answer = answer_limit(place, rest());
  }
  started.store_thread->open([=] { return connect(place, limit); }, answer,
                             unreachable(place, answer));
  if (place.store_is_served) {
    const auto round = std::make_shared<std::int64_t>(1);
    started.store_thread->must(
        [=, seconds = rest()](c10d::Store& store) { *round = join_round(store, place, seconds); },
        rest() + kStoreLimit, silent_store(place));
    started.store_thread->enter(cat("round/", *round));
    started.restarts = static_cast<int>(*round - 1);
  }
  const std::string address =
      interfaces.empty() ? local_address(place) : interfaces.front().address;
  started.rings = std::make_unique<SharedRings>(place.rank, place.size);
  started.introductions =
      introduce(place, *started.store_thread, address,
                place.share_memory ? started.rings->address() : "", rest(), limit);
  started.shares_memory = share_memory(place, *started.store_thread, started.introductions,
                                       *started.rings, rest(), limit);
  const auto made = std::make_shared<Started>();
  started.store_thread->must(
      [=, seconds = rest()](c10d::Store& store) {
        using Gloo = c10d::ProcessGroupGloo;
        auto shared = c10::intrusive_ptr<c10d::Store>::reclaim_copy(&store);
        auto options = Gloo::Options::create(milliseconds(seconds));
        try {
          for (const Interface& each : interfaces)
            options->devices.push_back(Gloo::createDeviceForInterface(each.name));
          if (interfaces.empty())
            options->devices.push_back(Gloo::createDeviceForHostname(address));
          made->group =
              c10::make_intrusive<Gloo>(c10::make_intrusive<c10d::PrefixStore>("gloo", shared),
                                        place.rank, place.size, options);
          if (device.is_cuda()) made->device_groups = nccl_groups(shared, place.rank, place.size);
        } catch (const std::exception& error) {
          throw Error(cat("rank ", place.rank, ", at ", address,
                          ", cannot connect to the other ranks within ", fixed_text(limit, 1),
                          " s: ", brief(error),
                          "; if hosts have several networks, set GLOO_SOCKET_IFNAME to the "
                          "interface that joins them"));
        }
      },
      rest() + 1,
      cat("rank ", place.rank, ", at ", address, ", cannot connect to the other ranks within ",
          fixed_text(limit, 1),
          " s; if hosts have several networks, set GLOO_SOCKET_IFNAME to the interface that joins "
          "them"));
  started.group = std::move(made->group);
  started.device_groups = std::move(made->device_groups);
  return started;
}

}  // namespace headrace
