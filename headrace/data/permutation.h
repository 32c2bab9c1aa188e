// A keyed permutation of 0 … n−1 in constant memory: the order of an epoch's samples.
//
//   permuted(i, n, key) for i = 0 … n−1 is each of 0 … n−1 once.
//
// A balanced Feistel network (Luby, Rackoff: How to construct pseudorandom permutations, 1988)
// permutes the next power of four, and values of n and above are sent through it again until one
// falls below n (cycle walking: Black, Rogaway, Ciphers with arbitrary finite domains, 2002), four
// times on average at most. Values are part of the format: changing them changes every run.
#pragma once

#include <cstdint>

namespace headrace {

// For 0 <= index < n.
std::int64_t permuted(std::int64_t index, std::int64_t n, std::uint64_t key);

}  // namespace headrace
