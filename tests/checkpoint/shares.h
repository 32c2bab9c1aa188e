// A small model's snapshot cut over ranks, and checkpoints of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "headrace/checkpoint/snapshot.h"
#include "headrace/checkpoint/write.h"
#include "headrace/tensor/naming.h"

namespace headrace {

inline Naming small_naming() {
  Naming naming;
  naming.stored = {{"embedding", {"wte.weight", false, {5, 3}}},
                   {"up", {"h.0.up.weight", true, {4, 3}}},
                   {"up.bias", {"h.0.up.bias", false, {4}}},
                   {"down", {"h.0.down.weight", true, {3, 4}}},
                   {"scale", {"scale", false, {}}}};
  return naming;
}

inline std::vector<std::string> names_of(const Naming& naming) {
  std::vector<std::string> names;
  for (const auto& [name, stored] : naming.stored) names.push_back(name);
  return names;
}

inline Snapshot small_snapshot(std::int64_t step) {
  torch::manual_seed(static_cast<std::uint64_t>(step));
  Snapshot snapshot{.step = step,
                    .samples = 8 * step,
                    .seed = 0xffffffffffffffff,
                    .numbers = {{"updates", static_cast<double>(step)}, {"loss_scale", 65536}}};
  for (const auto& [name, stored] : small_naming().stored) {
    snapshot.weights[name] = torch::randn(stored.shape);
    snapshot.first[name] = torch::randn(stored.shape);
    snapshot.second[name] = torch::rand(stored.shape);
  }
  return snapshot;
}

// Every ranks-th parameter, but none for the last rank of three or more.
inline Snapshot share_of(const Snapshot& whole, int rank, int ranks) {
  Snapshot share = whole;
  const int holders = ranks > 2 ? ranks - 1 : ranks;
  int number = 0;
  for (const std::string& name : names_of(small_naming())) {
    if (number++ % holders == rank) continue;
    for (NamedTensors* tensors : {&share.weights, &share.first, &share.second})
      tensors->erase(name);
  }
  return share;
}

inline void write_shares(const std::filesystem::path& directory, const Snapshot& whole, int ranks) {
  for (int rank = 0; rank < ranks; ++rank)
    write_share(directory, share_of(whole, rank, ranks), small_naming(), rank, ranks);
}

inline std::filesystem::path write_whole(const std::filesystem::path& directory,
                                         const Snapshot& whole,
                                         int ranks) {
  write_shares(directory, whole, ranks);
  return complete_checkpoint(directory, whole.step, ranks, small_naming(),
                             {"{\"model_type\": \"small\"}\n", "[model]\n"});
}

inline void expect_same(const NamedTensors& actual, const NamedTensors& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(actual.contains(name)) << name;
    EXPECT_TRUE(torch::equal(actual.at(name), tensor)) << name;
    EXPECT_TRUE(actual.at(name).is_contiguous()) << name;
  }
}

inline void expect_same(const Snapshot& actual, const Snapshot& expected) {
  EXPECT_EQ(actual.step, expected.step);
  EXPECT_EQ(actual.samples, expected.samples);
  EXPECT_EQ(actual.seed, expected.seed);
  EXPECT_EQ(actual.numbers, expected.numbers);
  expect_same(actual.weights, expected.weights);
  expect_same(actual.first, expected.first);
  expect_same(actual.second, expected.second);
}

}  // namespace headrace
