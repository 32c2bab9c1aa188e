// Ranks that are threads of one process: messages are handed over, nothing is copied that is
// already dense.
//
//   run_ranks(4, [&](Transport& transport) { work(transport); });
//
// A rank whose transport is destroyed while a peer waits for it has ended: the peer's wait throws.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "headrace/transport/rank_threads.h"
#include "headrace/transport/transport.h"

namespace headrace {

// But for the device, for tests of what a real network does.
struct LocalOptions {
  // Seconds until a message is copied and handed over; a sender that writes into its tensors
  // meanwhile is found out.
  double delay = 0;
  bool capacity_zero = false;  // send() blocks until the peer has posted its receive
  torch::Device device =
      torch::kCPU;  // that the ranks compute on; tensors of others are handed over as they are
};

// One for each rank; each is to be used, and destroyed, by the thread that runs its rank.
std::vector<std::unique_ptr<Transport>> local_transports(int ranks,
                                                         const LocalOptions& options = {});

// Calls `work` for every rank in a thread of its own, and throws, as said in rank_threads.h.
void run_ranks(int ranks,
               const std::function<void(Transport&)>& work,
               const LocalOptions& options = {});

}  // namespace headrace
