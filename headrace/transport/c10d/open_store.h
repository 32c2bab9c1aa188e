// The run's store: rank 0 serves it, unless the launcher does, and the others connect to it.
//
//   open_store(store_thread, place, chosen_interfaces(), 300);
//
// All texts are for the user and name MASTER_ADDR and MASTER_PORT.
#pragma once

#include <string>
#include <vector>

#include "headrace/transport/c10d/store_thread.h"
#include "headrace/transport/rendezvous/interfaces.h"
#include "headrace/transport/rendezvous/rendezvous.h"

namespace headrace {

// Rank 0's listens on the interface that GLOO_SOCKET_IFNAME has chosen, where MASTER_ADDR is there, and on loopback,
// where MASTER_ADDR is that; else on all, as others may know this host by another address. Throws Error where
// the port is another program's, and where the store is not there within `limit` seconds.
void open_store(StoreThread& store_thread,
                const Rendezvous& place,
                const std::vector<Interface>& interfaces,
                double limit);

// The address from which this host reaches the store: the one to announce to the others. No packet
// is sent for it.
std::string local_address(const Rendezvous& place);

bool is_loopback(const std::string& address);  // a numeric one
std::string where(const Rendezvous& place);    // "10.0.0.1:29500"
std::string silent_store(const Rendezvous& place);

}  // namespace headrace
