#include "headrace/transport/rendezvous/interfaces.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <map>

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/transport/rendezvous/launcher_variables.h"

namespace headrace {

namespace {

struct State {
  bool up = false;
  std::string address;  // empty: none
};

// "" for an address that is neither IPv4 nor IPv6.
std::string text_of(const sockaddr* address) {
  if (address == nullptr) return "";
  const bool four = address->sa_family == AF_INET;
  if (!four && address->sa_family != AF_INET6) return "";
  std::array<char, NI_MAXHOST> text{};
  const socklen_t length = four ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (getnameinfo(address, length, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0)
    return "";
  return text.data();
}

std::map<std::string, State> interfaces_here() {
  ifaddrs* first = nullptr;
  check(getifaddrs(&first) == 0,
        "cannot list this host's network interfaces: ", std::strerror(errno));
  std::map<std::string, State> found;
  // An entry for each address, and one without for each interface.
  for (const ifaddrs* each = first; each != nullptr; each = each->ifa_next) {
    State& state = found[each->ifa_name];
    state.up = state.up || (each->ifa_flags & IFF_UP) != 0;
    if (state.address.empty()) state.address = text_of(each->ifa_addr);
  }
  freeifaddrs(first);
  return found;
}

std::string usable(const std::map<std::string, State>& interfaces) {
  std::vector<std::string> texts;
  for (const auto& [name, state] : interfaces)
    if (state.up && !state.address.empty()) texts.push_back(cat(name, " (", state.address, ")"));
  return texts.empty() ? "none" : join_text(texts, ", ");
}

}  // namespace

std::vector<Interface> chosen_interfaces() {
  const auto value = variable("GLOO_SOCKET_IFNAME");
  if (!value) return {};
  const std::map<std::string, State> here = interfaces_here();
  std::vector<Interface> chosen;
  std::vector<std::string> faults;
  for (const std::string& name : split_text(*value, ',')) {
    const auto found = here.find(name);
    if (found == here.end())
      faults.push_back(cat("there is no network interface '", name, "'"));
    else if (!found->second.up)
      faults.push_back(cat("the network interface ", name, " is down"));
    else if (found->second.address.empty())
      faults.push_back(cat("the network interface ", name, " has no IPv4 or IPv6 address"));
    else
      chosen.push_back({name, found->second.address});
  }
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  check_usage(faults.empty(), "GLOO_SOCKET_IFNAME=", *value, ": ", join_text(faults, ", and "),
              " on host ", host.data(), "; those that are up and have an address: ", usable(here));
  return chosen;
}

}  // namespace headrace
