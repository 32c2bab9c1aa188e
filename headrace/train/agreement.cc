#include "headrace/train/agreement.h"

#include <cstddef>
#include <sstream>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/transport/all_gather.h"

namespace headrace {
namespace {

// The first lines in which two texts differ; equal where the texts are.
std::pair<std::string, std::string> first_difference(const std::string& a, const std::string& b) {
  std::istringstream lines_a(a), lines_b(b);
  std::string line_a, line_b;
  while (true) {
    const bool more_a = static_cast<bool>(std::getline(lines_a, line_a));
    const bool more_b = static_cast<bool>(std::getline(lines_b, line_b));
    if (!more_a) line_a.clear();
    if (!more_b) line_b.clear();
    if (line_a != line_b || (!more_a && !more_b)) return {line_a, line_b};
  }
}

}  // namespace

void require_agreement(Transport& transport, const std::string& what, const std::string& mine) {
  const std::vector<std::string> all = all_gather_text(transport, mine, kAgreement);
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    const auto [first, other] = first_difference(all[0], all[rank]);
    check(first == other, "ranks were given different ", what, ": rank 0 (", transport.host(0),
          ") has ", first, ", rank ", rank, " (", transport.host(static_cast<int>(rank)), ") has ",
          other);
  }
}

}  // namespace headrace
