#include "headrace/plan/partition.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

// least[k][j]: the smallest possible largest weight of the first j layers in k + 1 stages. For
// growing j the best last cut only moves right, so one pointer a row finds it: O(stages · layers).
std::vector<int> least_maximum(const std::vector<LayerItem>& layers, int stages) {
  const std::size_t n = layers.size();
  const auto parts = static_cast<std::size_t>(stages);
  std::vector<double> before(n + 1, 0);
  for (std::size_t i = 0; i < n; ++i) before[i + 1] = before[i] + layers[i].weight;

  std::vector<double> least(before);
  std::vector<std::vector<std::size_t>> cuts(parts, std::vector<std::size_t>(n + 1, 0));
  for (std::size_t k = 1; k < parts; ++k) {
    std::vector<double> next(n + 1, std::numeric_limits<double>::infinity());
    std::size_t cut = k;
    for (std::size_t j = k + 1; j <= n; ++j) {
      const auto largest = [&](std::size_t i) { return std::max(least[i], before[j] - before[i]); };
      while (cut + 1 < j && largest(cut + 1) < largest(cut)) ++cut;
      // Equal values may hide a lower one further on only where weights are zero; step over those.
      std::size_t probe = cut;
      while (probe + 1 < j && largest(probe + 1) == largest(probe)) ++probe;
      if (probe + 1 < j && largest(probe + 1) < largest(cut)) cut = probe + 1;
      next[j] = largest(cut);
      cuts[k][j] = cut;
    }
    least = next;
  }
  std::vector<int> starts(parts, 0);
  std::size_t end = n;
  for (std::size_t k = parts - 1; k > 0; --k) {
    end = cuts[k][end];
    starts[k] = static_cast<int>(end);
  }
  return starts;
}

std::vector<int> by_balance(const std::vector<LayerItem>& layers,
                            int stages,
                            const std::vector<int>& balance) {
  const std::string written = [&] {
    std::vector<std::string> numbers;
    for (const int count : balance) numbers.push_back(std::to_string(count));
    return "balance [" + join_text(numbers, ", ") + "]";
  }();
  check_usage(static_cast<int>(balance.size()) == stages, written, " has ", balance.size(),
              " numbers but there are ", stages, " stages");
  int blocks = 0;
  for (const LayerItem& layer : layers) blocks = std::max(blocks, layer.block + 1);
  const int sum = std::accumulate(balance.begin(), balance.end(), 0);
  check_usage(std::all_of(balance.begin(), balance.end(), [](int count) { return count >= 0; }),
              written, " holds a negative number");
  check_usage(sum >= blocks, written, " omits blocks.", sum, ": its sum is ", sum,
              " but the model has ", blocks, " blocks");
  check_usage(sum <= blocks, written, " asks for blocks.", blocks,
              ", which is not there: its sum is ", sum, " but the model has ", blocks, " blocks");
  // Where each block begins; the entry after the last block is where that one ends.
  std::vector<int> begins(static_cast<std::size_t>(blocks) + 1, 0);
  for (std::size_t i = layers.size(); i-- > 0;) {
    if (layers[i].block < 0) continue;
    begins[static_cast<std::size_t>(layers[i].block)] = static_cast<int>(i);
    begins.back() = std::max(begins.back(), static_cast<int>(i) + 1);
  }
  std::vector<int> starts = {0};
  int block = 0;
  for (int s = 1; s < stages; ++s) {
    block += balance[static_cast<std::size_t>(s) - 1];
    const int start = begins[static_cast<std::size_t>(block)];
    check_usage(start > starts.back(), written, " leaves stage ", s - 1, " without a layer");
    starts.push_back(start);
  }
  check_usage(starts.back() < static_cast<int>(layers.size()), written, " leaves stage ",
              stages - 1, " without a layer");
  return starts;
}

std::vector<int> by_split(const std::vector<LayerItem>& layers,
                          int stages,
                          const std::vector<std::string>& split) {
  check_usage(static_cast<int>(split.size()) == stages - 1, "split names ", split.size(),
              " layers; it must name the first layer of each of the ", stages - 1, " later stages");
  std::vector<std::string> names;
  for (const LayerItem& layer : layers) names.push_back(layer.name);
  std::vector<int> starts = {0};
  for (const std::string& name : split) {
    const auto at = std::find(names.begin(), names.end(), name);
    if (at == names.end()) {
      const std::string near = nearest(name, names);
      check_usage(false, "split names '", name, "', which is no layer of the model",
                  near.empty() ? "; layers are embedding, blocks.N.attention, blocks.N.mlp and head"
                               : "; did you mean '" + near + "'?");
    }
    const int start = static_cast<int>(at - names.begin());
    check_usage(start != starts.back(), "split repeats ", name,
                start == 0 ? ", where stage 0 begins anyway" : "");
    check_usage(start > starts.back(), "split names ", name, " after ",
                names[static_cast<std::size_t>(starts.back())], ", which comes later in the model");
    starts.push_back(start);
  }
  return starts;
}

}  // namespace

void require_layers(std::size_t layers, std::int64_t stages) {
  check_usage(static_cast<std::int64_t>(layers) >= stages, "the model has ", layers,
              " layers but there are ", stages,
              " stages, and a stage needs at least one layer; use at most ", layers, " stages");
}

std::vector<int> partition(const std::vector<LayerItem>& layers,
                           int stages,
                           const SplitWish& wish) {
  check_usage(stages >= 1, "there must be at least 1 stage, not ", stages);
  require_layers(layers.size(), stages);
  check_usage(wish.balance.empty() || wish.split.empty(),
              "balance and split are both given; use one");
  if (!wish.balance.empty()) return by_balance(layers, stages, wish.balance);
  if (!wish.split.empty()) return by_split(layers, stages, wish.split);
  return least_maximum(layers, stages);
}

}  // namespace headrace
