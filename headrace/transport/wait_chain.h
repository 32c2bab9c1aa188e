// Who is at fault when a wait has run out: the rank at the end of the chain of waits, not the
// nearest.
//
//   0 waits for 1, 1 waits for 2, 2 waits for nobody  ->  2
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "headrace/transport/transport.h"

namespace headrace {

struct Waiting {
  int peer = -1;
  bool to_send = false;  // for the peer to take a message, instead of for a message of the peer's
  Label label;
};

struct AtFault {
  int rank = -1;
  std::string what;
};

// `waits` is what every rank is known to wait for, `rank` the one whose wait ran out after
// `seconds`, `hosts` where the ranks run.
AtFault find_at_fault(int rank,
                      double seconds,
                      const std::vector<std::optional<Waiting>>& waits,
                      const std::vector<std::string>& hosts);

// "activations of stage 1, microbatch 3, step 7 of rank 2"
std::string to_string(const Waiting& waiting);

}  // namespace headrace
