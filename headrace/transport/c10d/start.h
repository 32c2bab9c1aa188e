// The start of a run over c10d: the ranks meet at the store, tell each other where they are, and
// connect.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "headrace/transport/c10d/link.h"
#include "headrace/transport/c10d/shared_ring.h"
#include "headrace/transport/c10d/store_thread.h"
#include "headrace/transport/rendezvous/rendezvous.h"

namespace headrace {

struct Introduction {
  std::string host;
  std::string boot;  // ranks with the same one share a clock
  std::string address;
  std::string rings;   // where; empty: it has none
  std::string device;  // devices.h: device_identity
};

struct Started {
  std::unique_ptr<StoreThread> store_thread;
  std::vector<Introduction> introductions;  // of every rank
  GroupBackend group;
  std::unique_ptr<SharedRings> rings;
  std::vector<bool> shares_memory;  // by rank: messages both ways go through rings
  int restarts = 0;                 // starts of the run before this one, by the launcher (round.h)
  torch::Device device = torch::kCPU;  // the rank's own, where all use one of a kind
  // How tensors on devices go straight to that of a peer, by rank and channel; empty where they do not, as where two
  // ranks have one device.
  std::vector<std::array<DirectGroup, kChannels>> direct;  // [rank][channel]
};

// Throws, within `limit` seconds, an Error that says who or what is missing.
Started start_c10d(const Rendezvous& place, double limit, const DeviceUse& use);

}  // namespace headrace
