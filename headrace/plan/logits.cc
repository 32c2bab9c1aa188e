#include "headrace/plan/logits.h"

#include <algorithm>

namespace headrace {

std::int64_t logit_rows_at_once(std::int64_t tokens, std::int64_t vocabulary) {
  constexpr std::int64_t kWhole = std::int64_t{64} << 20;  // numbers, of four bytes each
  constexpr std::int64_t kChunk = std::int64_t{32} << 20;
  if (tokens <= std::max<std::int64_t>(1, kWhole / vocabulary)) return tokens;
  const std::int64_t most = std::max<std::int64_t>(1, kChunk / vocabulary);
  const std::int64_t chunks = (tokens + most - 1) / most;
  return (tokens + chunks - 1) / chunks;  // of one size, but for the last
}

}  // namespace headrace
