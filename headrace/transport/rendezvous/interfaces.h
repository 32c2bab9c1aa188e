// The network interfaces that GLOO_SOCKET_IFNAME names, looked up before Gloo sees the name: it
// answers one that it does not find with an assertion.
#pragma once

#include <string>
#include <vector>

namespace headrace {

struct Interface {
  std::string name;
  std::string address;  // as Gloo takes it: the first, IPv4 or IPv6
};

// Those named by GLOO_SOCKET_IFNAME, one or, as PyTorch takes them, several parted by commas; none
// where it is not set. Throws UsageError with the value, what is wrong with it, and the interfaces
// of this host, where one does not exist, is down or has no address.
std::vector<Interface> chosen_interfaces();

}  // namespace headrace
