#include "headrace/data/permutation.h"

#include <cassert>
#include <cstdint>

#include "headrace/base/keyed.h"

namespace headrace {

std::int64_t permuted(std::int64_t index, std::int64_t n, std::uint64_t key) {
  assert(index >= 0 && index < n);
  int half = 0;  // bits of either half
  while (half < 31 && (std::int64_t{1} << (2 * half)) < n) ++half;
  assert((std::int64_t{1} << (2 * half)) >= n);
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;

  // Halves of few bits mix slowly; eight rounds leave no visible pattern even for n = 4.
  constexpr int kRounds = 8;
  auto value = static_cast<std::uint64_t>(index);
  do {
    std::uint64_t left = value >> half;
    std::uint64_t right = value & mask;
    for (int round = 0; round < kRounds; ++round) {
      const std::uint64_t next = left ^ (keyed(key, round, right) & mask);
      left = right;
      right = next;
    }
    value = (left << half) | right;
  } while (value >= static_cast<std::uint64_t>(n));
  return static_cast<std::int64_t>(value);
}

}  // namespace headrace
