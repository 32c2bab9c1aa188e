#include "headrace/transport/transport.h"

#include <chrono>
#include <string>
#include <thread>

#include "headrace/base/text.h"

namespace headrace {

namespace {

const char* to_string(Purpose purpose) {
  switch (purpose) {
    case Purpose::Activations:
      return "activations";
    case Purpose::Gradients:
      return "gradients";
    case Purpose::SharedGradients:
      return "shared gradients";
    case Purpose::SharedSums:
      return "sums of shared gradients";
    case Purpose::Parameters:
      return "updated parameters";
    case Purpose::AllGather:
      return "collected values";
    case Purpose::Clock:
      return "a clock's time";
  }
  return "unknown purpose";
}

}  // namespace

std::string to_string(const Label& label) {
  std::string text = to_string(label.purpose);
  if (label.stage >= 0) text += cat(" of stage ", label.stage);
  if (label.microbatch >= 0)
    text += cat(channel_of(label.purpose) == 0 ? ", microbatch " : ", group ", label.microbatch);
  return label.step < 0 ? text : text + cat(", step ", label.step + 1);
}

void Transport::await(const Mark& mark) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kShort = std::chrono::microseconds(20), kLong = std::chrono::microseconds(200);
  const auto begin = Clock::now();
  while (!mark.reached()) {
    const std::chrono::duration<double> waited = Clock::now() - begin;
    require_running();
    check(waited.count() < limit(), "rank ", rank(), " waited ", fixed_text(limit(), 1),
          " s for its device, ", device().str(), ", which has not done what it was given");
    std::this_thread::sleep_for(waited < std::chrono::milliseconds(1) ? kShort : kLong);
  }
}

bool spans_hosts(const Transport& transport) {
  for (int rank = 1; rank < transport.size(); ++rank)
    if (transport.host(rank) != transport.host(0)) return true;
  return false;
}

std::string host_text(const Transport& transport, int rank) {
  return spans_hosts(transport) ? ", host " + transport.host(rank) : "";
}

}  // namespace headrace
