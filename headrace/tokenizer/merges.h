// The merges of byte-pair encoding: which two tokens become one, and which first (Sennrich et al.
// 2016, "Neural Machine Translation of Rare Words with Subword Units").
//
//   Merges merges;
//   merges.add(0, 1, 2);                       // "a" "b" → "ab", the first to be done
//   std::vector<std::int32_t> ids = {0, 0, 1};
//   merges.apply(ids);                         // {0, 2}
//
// A word of n tokens takes a time in O(n log n).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace headrace {

class Merges {
 public:
  // Each has the rank after the one before; of the same pair the last counts.
  void reserve(std::size_t count);
  void add(std::int32_t left, std::int32_t right, std::int32_t merged);
  void apply(std::vector<std::int32_t>& ids) const;

 private:
  struct Merge {
    std::uint64_t pair;
    std::int32_t rank;
    std::int32_t merged;
  };

  const Merge* find(std::int32_t left, std::int32_t right) const;
  Merge& place(std::uint64_t pair);
  std::size_t first_slot(std::uint64_t pair) const;

  std::vector<Merge> slots_;  // a power of two of them, less than half in use
  std::size_t used_ = 0;
  std::int32_t next_rank_ = 0;
};

}  // namespace headrace
