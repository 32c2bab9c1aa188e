// The start of a run over c10d: the ranks meet at the store, tell each other where they are, and
// connect.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "headrace/transport/c10d_desk.h"
#include "headrace/transport/c10d_link.h"
#include "headrace/transport/c10d_mailbox.h"
#include "headrace/transport/rendezvous.h"

namespace headrace {

struct Greeting {
  std::string host;
  std::string boot;  // ranks with the same one share a clock
  std::string address;
  std::string mailboxes;  // where; empty: it has none
};

struct Started {
  std::unique_ptr<Desk> desk;
  std::vector<Greeting> greetings;  // of every rank
  GroupBackend group;
  std::unique_ptr<Mailboxes> mailboxes;
  std::vector<bool> shares_memory;  // by rank: messages both ways go through mailboxes
  DeviceGroups device_groups;       // empty where tensors on devices travel through the CPU
};

// Throws, within `limit` seconds, an Error that says who or what is missing.
Started start_c10d(const Rendezvous& place, double limit, torch::Device device);

}  // namespace headrace
