#include "headrace/train/copies.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <vector>

#include "headrace/base/text.h"
#include "headrace/checkpoint/files.h"
#include "headrace/transport/all_gather.h"

namespace headrace {
namespace {

constexpr std::size_t kDigits = 32;  // of a checksum

void add(Checksum& checksum, const torch::Tensor& value) {
  const torch::Tensor dense = value.detach().to(torch::kCPU).contiguous();
  checksum.add({static_cast<const std::byte*>(dense.data_ptr()), dense.nbytes()});
}

bool has(const Ownership::Group& group, int rank) {
  return std::ranges::find(group.ranks, rank) != group.ranks.end();
}

// "rank 3", "ranks 0, 1 and 2"
std::string ranks_text(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i)
    text += cat(i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ", ranks[i]);
  return text;
}

// What the ranks of a group have given, the largest number of equal ones first; of equally many, that
// of the lowest rank.
std::vector<std::vector<int>> alike(const Ownership::Group& group,
                                    const std::vector<std::string>& all,
                                    std::size_t at) {
  std::map<std::string, std::vector<int>> by_sum;
  for (const int rank : group.ranks)
    by_sum[all[static_cast<std::size_t>(rank)].substr(at, kDigits)].push_back(rank);
  std::vector<std::vector<int>> classes;
  for (auto& [sum, ranks] : by_sum) {
    std::ranges::sort(ranks);
    classes.push_back(ranks);
  }
  std::ranges::sort(classes, [](const auto& a, const auto& b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  return classes;
}

}  // namespace

std::string differing_copies(Pipeline& pipeline, Transport& transport, std::int64_t step) {
  const Ownership& ownership = pipeline.ownership();
  if (ownership.groups.empty()) return "";
  const Weights& weights = pipeline.weights();
  const int self = transport.rank();
  // One checksum a group, and of a group that differs one a parameter.
  std::string mine;
  for (const Ownership::Group& group : ownership.groups) {
    Checksum checksum;
    if (has(group, self))
      for (const std::size_t place : group.members)
        add(checksum, weights.value(weights.index_of(place)));
    mine += checksum.text();
  }
  const std::vector<std::string> sums = all_gather_text(transport, mine, step);
  std::map<std::size_t, const Ownership::Group*> differing;  // by place of the parameter
  for (std::size_t g = 0; g < ownership.groups.size(); ++g)
    if (alike(ownership.groups[g], sums, g * kDigits).size() > 1)
      for (const std::size_t place : ownership.groups[g].members)
        differing.emplace(place, &ownership.groups[g]);
  if (differing.empty()) return "";

  mine.clear();
  for (const auto& [place, group] : differing) {
    Checksum checksum;
    if (has(*group, self)) add(checksum, weights.value(weights.index_of(place)));
    mine += checksum.text();
  }
  const std::vector<std::string> each = all_gather_text(transport, mine, step);
  std::size_t at = 0;
  for (const auto& [place, group] : differing) {
    const auto classes = alike(*group, each, at);
    at += kDigits;
    if (classes.size() == 1) continue;
    std::vector<int> others;
    for (std::size_t i = 1; i < classes.size(); ++i)
      others.insert(others.end(), classes[i].begin(), classes[i].end());
    std::ranges::sort(others);
    return cat(ownership.parameters[place].name, " on ", ranks_text(others),
               " is not what it is on ", ranks_text(classes[0]));
  }
  return "";
}

}  // namespace headrace
