#include "headrace/plan/partition.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<LayerItem> weights(const std::vector<double>& values) {
  std::vector<LayerItem> layers;
  for (const double value : values)
    layers.push_back({"layer." + std::to_string(layers.size()), -1, value});
  return layers;
}

std::vector<LayerItem> gpt_layers(int blocks) {
  std::vector<LayerItem> layers = {{"embedding", -1, 1}};
  for (int b = 0; b < blocks; ++b) {
    layers.push_back({"blocks." + std::to_string(b) + ".attention", b, 1});
    layers.push_back({"blocks." + std::to_string(b) + ".mlp", b, 2});
  }
  layers.push_back({"head", -1, 3});
  return layers;
}

double largest(const std::vector<LayerItem>& layers, const std::vector<int>& starts) {
  double most = 0;
  for (std::size_t s = 0; s < starts.size(); ++s) {
    const int end = s + 1 < starts.size() ? starts[s + 1] : static_cast<int>(layers.size());
    EXPECT_LT(starts[s], end) << "stage " << s << " is empty";
    double sum = 0;
    for (int i = starts[s]; i < end; ++i) sum += layers[static_cast<std::size_t>(i)].weight;
    most = std::max(most, sum);
  }
  return most;
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(Partition, LeavesNoStageEmptyAndKeepsTheLeastMaximum) {
  EXPECT_EQ(largest(weights({1, 1, 1, 1, 1}), partition(weights({1, 1, 1, 1, 1}), 4, {})), 2);
  const auto many = weights(std::vector<double>(42, 1.0));
  EXPECT_EQ(largest(many, partition(many, 16, {})), 3);
  const auto heavy_ends = weights({5000, 1, 1, 1, 1, 5000});
  EXPECT_EQ(largest(heavy_ends, partition(heavy_ends, 4, {})), 5000);
  const auto zeros = weights({0, 0, 5, 0, 0, 5, 0});
  EXPECT_EQ(largest(zeros, partition(zeros, 3, {})), 5);
}

TEST(Partition, IsExactOnRandomLists) {
  std::mt19937 random(7);
  for (int round = 0; round < 400; ++round) {
    const int n = 1 + static_cast<int>(random() % 9);
    const int stages = 1 + static_cast<int>(random() % static_cast<unsigned>(n));
    std::vector<double> values;
    for (int i = 0; i < n; ++i) values.push_back(static_cast<double>(random() % 6));
    const auto layers = weights(values);
    // The least maximum by trying every set of cuts.
    double best = 1e9;
    for (unsigned mask = 0; mask < (1U << (n - 1)); ++mask) {
      if (std::popcount(mask) != stages - 1) continue;
      std::vector<int> starts = {0};
      for (int i = 1; i < n; ++i)
        if ((mask >> (i - 1)) & 1U) starts.push_back(i);
      best = std::min(best, largest(layers, starts));
    }
    EXPECT_EQ(largest(layers, partition(layers, stages, {})), best) << "round " << round;
  }
}

TEST(Partition, RefusesFewerLayersThanStagesWithBothNumbers) {
  const std::string text = refusal([] { partition(weights({1, 1, 1}), 4, {}); });
  EXPECT_THAT(text, HasSubstr("3 layers"));
  EXPECT_THAT(text, HasSubstr("4 stages"));
}

TEST(Partition, ObeysBalanceInBlocks) {
  EXPECT_THAT(partition(gpt_layers(8), 2, {.balance = {3, 5}, .split = {}}), ElementsAre(0, 7));
  EXPECT_THAT(partition(gpt_layers(4), 3, {.balance = {0, 4, 0}, .split = {}}),
              ElementsAre(0, 1, 9));
}

TEST(Partition, RefusesABalanceThatOmitsRepeatsOrEmpties) {
  const auto layers = gpt_layers(8);
  EXPECT_THAT(refusal([&] { partition(layers, 2, {.balance = {3, 4}, .split = {}}); }),
              HasSubstr("omits blocks.7"));
  EXPECT_THAT(refusal([&] { partition(layers, 2, {.balance = {5, 4}, .split = {}}); }),
              HasSubstr("blocks.8"));
  EXPECT_THAT(refusal([&] { partition(layers, 2, {.balance = {8}, .split = {}}); }),
              HasSubstr("2 stages"));
  EXPECT_THAT(refusal([&] { partition(layers, 3, {.balance = {4, 0, 4}, .split = {}}); }),
              HasSubstr("without a layer"));
}

TEST(Partition, ObeysSplitByName) {
  EXPECT_THAT(partition(gpt_layers(6), 4,
                        {.balance = {}, .split = {"blocks.1.attention", "blocks.4.mlp", "head"}}),
              ElementsAre(0, 3, 10, 13));
}

TEST(Partition, RefusesASplitThatNamesWrongly) {
  const auto layers = gpt_layers(6);
  const auto with = [&](std::vector<std::string> split) {
    return refusal([&] {
      partition(layers, static_cast<int>(split.size()) + 1, {.balance = {}, .split = split});
    });
  };
  EXPECT_THAT(with({"blocks.3.mpl"}), HasSubstr("did you mean 'blocks.3.mlp'"));
  EXPECT_THAT(with({"blocks.3.mlp", "blocks.3.mlp"}), HasSubstr("repeats blocks.3.mlp"));
  EXPECT_THAT(with({"blocks.3.mlp", "blocks.1.mlp"}), HasSubstr("blocks.1.mlp after blocks.3.mlp"));
  EXPECT_THAT(with({"embedding"}), HasSubstr("embedding"));
}

// Layers that do not divide evenly are all there, each once (six real reports of silently dropped
// layers).
TEST(Partition, KeepsEveryLayerWhateverTheNumbers) {
  for (const auto& [blocks, stages] :
       std::vector<std::pair<int, int>>{{30, 4}, {13, 4}, {10, 3}, {7, 2}, {10, 8}, {40, 16}}) {
    const auto layers = gpt_layers(blocks);
    const auto starts = partition(layers, stages, {});
    ASSERT_EQ(static_cast<int>(starts.size()), stages);
    EXPECT_EQ(starts[0], 0);
    EXPECT_TRUE(std::is_sorted(starts.begin(), starts.end(), std::less_equal<>()));
  }
}

}  // namespace
}  // namespace headrace
