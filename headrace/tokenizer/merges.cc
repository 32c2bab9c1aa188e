#include "headrace/tokenizer/merges.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <vector>

namespace headrace {
namespace {

constexpr std::uint64_t kEmpty = ~std::uint64_t{0};  // no pair's, as ids are 31 bits
constexpr std::int32_t kNone = -1;

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

// A token of a word, and those beside it.
struct Symbol {
  std::int32_t id;  // kNone: merged into the one before
  std::int32_t previous;
  std::int32_t next;
};

struct Candidate {
  std::int32_t rank;
  std::int32_t at;
  std::int32_t merged;
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : at > other.at;
  }
};

}  // namespace

std::size_t Merges::first_slot(std::uint64_t pair) const {
  return (pair * 0x9e3779b97f4a7c15u) >> (64 - std::countr_zero(slots_.size()));
}

Merges::Merge& Merges::place(std::uint64_t pair) {
  std::size_t slot = first_slot(pair);
  while (slots_[slot].pair != kEmpty && slots_[slot].pair != pair)
    slot = (slot + 1) & (slots_.size() - 1);
  return slots_[slot];
}

void Merges::reserve(std::size_t count) {
  const std::size_t size = std::bit_ceil(2 * count + 2);
  if (size <= slots_.size()) return;
  std::vector<Merge> old(size, Merge{kEmpty, 0, 0});
  old.swap(slots_);
  for (const Merge& merge : old)
    if (merge.pair != kEmpty) place(merge.pair) = merge;
}

void Merges::add(std::int32_t left, std::int32_t right, std::int32_t merged) {
  reserve(used_ + 1);
  Merge& slot = place(pair_of(left, right));
  if (slot.pair == kEmpty) ++used_;
  slot = {pair_of(left, right), next_rank_++, merged};
}

const Merges::Merge* Merges::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_of(left, right);
  for (std::size_t slot = first_slot(pair); slots_[slot].pair != kEmpty;
       slot = (slot + 1) & (slots_.size() - 1))
    if (slots_[slot].pair == pair) return &slots_[slot];
  return nullptr;
}

// The merge of the lowest rank first, of equals the leftmost. A candidate whose pair has changed since
// is passed over, unless the new pair gives the same token: so does the `tokenizers` package.
void Merges::apply(std::vector<std::int32_t>& ids) const {
  if (used_ == 0 || ids.size() < 2) return;
  std::vector<Symbol> symbols;
  symbols.reserve(ids.size());
  const auto count = static_cast<std::int32_t>(ids.size());
  for (std::int32_t i = 0; i < count; ++i)
    symbols.push_back({ids[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : kNone});
  const auto symbol = [&](std::int32_t at) -> Symbol& {
    return symbols[static_cast<std::size_t>(at)];
  };
  const auto merge_at = [&](std::int32_t at) -> const Merge* {
    return find(symbol(at).id, symbol(symbol(at).next).id);
  };

  std::vector<Candidate> first;
  first.reserve(ids.size());
  for (std::int32_t i = 0; i + 1 < count; ++i)
    if (const Merge* merge = merge_at(i)) first.push_back({merge->rank, i, merge->merged});
  std::priority_queue queue(std::greater<Candidate>(), std::move(first));
  const auto push = [&](std::int32_t at) {
    if (const Merge* merge = merge_at(at)) queue.push({merge->rank, at, merge->merged});
  };

  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbol(top.at);
    if (left.id == kNone || left.next == kNone) continue;
    const Merge* merge = merge_at(top.at);
    if (merge == nullptr || merge->merged != top.merged) continue;
    Symbol& right = symbol(left.next);
    left.id = top.merged;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) symbol(left.next).previous = top.at;
    if (left.previous != kNone) push(left.previous);
    if (left.next != kNone) push(top.at);
  }
  ids.clear();
  for (const Symbol& each : symbols)
    if (each.id != kNone) ids.push_back(each.id);
}

}  // namespace headrace
