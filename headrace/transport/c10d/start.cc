#include "headrace/transport/c10d/start.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include <c10/util/Logging.h>
#include <signal.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <unistd.h>

#include "headrace/base/text.h"
#include "headrace/tensor/devices.h"
#include "headrace/transport/c10d/nccl.h"
#include "headrace/transport/c10d/open_store.h"
#include "headrace/transport/c10d/round.h"
#include "headrace/transport/rendezvous/interfaces.h"

namespace headrace {

namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

Milliseconds milliseconds(double seconds) {
  return std::chrono::duration_cast<Milliseconds>(std::chrono::duration<double>(seconds));
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

std::string missing(const Rendezvous& place, int rank) {
  return cat("rank ", rank, " of ", place.size, " has not joined rank ", place.rank, " at ",
             where(place));
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
          // One text for each of the others to ask for, not one of each rank.
          const std::string between(1, '\0');
          if (place.rank > 0) {
            *texts = split_text(await(all), between.front());
            return;
          }
          for (int rank = 0; rank < place.size; ++rank) texts->push_back(await(key_of(rank)));
          store.set(all, join_text(*texts, between));
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
                                    torch::Device device,
                                    double limit,
                                    double set_limit) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const std::string own = join_text({std::to_string(place.size), host.data(), boot_id(),
                                     network_id(), address, rings, device_identity(device)},
                                    "\n");
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
    assert(parts.size() == 7);
    check(parts[0] == std::to_string(place.size), "rank ", introductions.size(), " was told of ",
          parts[0], " ranks, and rank ", place.rank, " of ", place.size,
          "; start all with the same WORLD_SIZE");
    introductions.push_back({parts[1], parts[2], parts[4], parts[5], parts[6]});
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

// One kind of device for all, and none that too many share; or the CPU for all.
torch::Device common_device(const std::vector<Introduction>& introductions, const DeviceUse& use) {
  const auto kind = [](const Introduction& rank) { return split_text(rank.device, ' ').front(); };
  std::map<std::pair<std::string, std::string>, int> ranks_of;
  int most = 0;
  for (const Introduction& rank : introductions)
    most = std::max(most, ++ranks_of[{rank.boot, rank.device}]);
  const bool are_alike = std::ranges::all_of(introductions, [&](const Introduction& rank) {
    return kind(rank) == kind(introductions.front());
  });
  return are_alike && most <= use.ranks_per_device ? use.device : torch::Device(torch::kCPU);
}

// Waits, as long as it takes, until both of two ranks want what the name says; false where `stop` has said so before.
// NCCL could not be stopped while it waits for a peer.
bool await_both(c10d::Store& store,
                const std::string& name,
                bool is_lower,
                const std::function<bool()>& stop) {
  constexpr auto kFirstPause = Milliseconds(1), kLastPause = Milliseconds(50);
  const auto key_of = [&](bool lower) { return name + (lower ? "/lower" : "/higher"); };
  store.set(key_of(is_lower), std::string("+"));
  for (auto pause = kFirstPause; !store.check({key_of(!is_lower)});
       pause = std::min(2 * pause, kLastPause)) {
    if (stop()) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

// NCCL joins no two ranks that have one device.
std::vector<std::array<DirectGroup, kChannels>> direct_groups(
    const Rendezvous& place,
    const std::vector<Introduction>& introductions,
    const c10::intrusive_ptr<c10d::Store>& store,
    const DirectPair& direct) {
  std::vector<std::array<DirectGroup, kChannels>> groups(introductions.size());
  if (!direct) return groups;
  const Introduction& own = introductions[static_cast<std::size_t>(place.rank)];
  for (std::size_t r = 0; r < introductions.size(); ++r) {
    const int peer = static_cast<int>(r);
    const bool has_another =
        introductions[r].boot != own.boot || introductions[r].device != own.device;
    if (peer == place.rank || !has_another) continue;
    const std::string pair =
        cat("nccl/", std::min(peer, place.rank), "/", std::max(peer, place.rank), "/");
    for (std::size_t channel = 0; channel < kChannels; ++channel)
      groups[r][channel] = [=](bool to_higher, const std::function<bool()>& stop) {
        const std::string name = cat(pair, channel, to_higher ? "/up" : "/down");
        const bool is_lower = place.rank < peer;
        const auto apart = store->clone();  // a connection of this thread's
        return await_both(*apart, name, is_lower, stop) ? direct(name, apart, is_lower)
                                                        : GroupBackend();
      };
  }
  return groups;
}

}  // namespace

Started start_c10d(const Rendezvous& place, double limit, const DeviceUse& use) {
  silence_c10d();
  ignore_broken_pipes();
  const std::vector<Interface> interfaces = chosen_interfaces();
  const auto begin = Clock::now();
  const auto rest = [&] {
    return std::max(0.1, limit - std::chrono::duration<double>(Clock::now() - begin).count());
  };
  Started started;
  started.store_thread = std::make_unique<StoreThread>();
  open_store(*started.store_thread, place, interfaces, limit);
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
                place.share_memory ? started.rings->address() : "", use.device, rest(), limit);
  started.device = common_device(started.introductions, use);
  if (has_nccl && started.device.is_cuda())
    prepare_nccl(interfaces.empty() ? "" : interfaces.front().name);
  started.shares_memory = share_memory(place, *started.store_thread, started.introductions,
                                       *started.rings, rest(), limit);
  const auto made = std::make_shared<Started>();
  started.store_thread->must(
      [=, seconds = rest(), introductions = started.introductions,
       common = started.device](c10d::Store& store) {
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
          DirectPair pair = common.is_cpu() ? DirectPair() : use.direct;
          if (!pair && has_nccl && common.is_cuda()) pair = nccl_pair;
          made->direct = direct_groups(place, introductions, shared, pair);
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
  started.direct = std::move(made->direct);
  return started;
}

}  // namespace headrace
