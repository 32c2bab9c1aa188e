// Weights that several ranks hold are the same to the bit, and where one bit is not, it is found and its place named.
#include "headrace/train/copies.h"

#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/keyed.h"
#include "headrace/model/transformer.h"
#include "headrace/train/trainer.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

constexpr std::int64_t kRows = 8, kContext = 8, kVocabulary = 41;

struct Cut {
  int ranks = 2;
  std::vector<int> replicas = {1};
  bool sharded = false;
};

struct Flip {
  int rank = -1;
  std::string parameter;
  int bit = 0;  // of its first number
};

void flip(const Weights& weights, const Flip& which) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights.name(i) != which.parameter) continue;
    auto* number = static_cast<std::uint32_t*>(weights.value(i).data_ptr());
    *number ^= 1U << static_cast<unsigned>(which.bit);
  }
}

// What each rank finds after a step, after which some bits were flipped.
std::map<int, std::string> found(const Cut& cut, const std::vector<Flip>& flips) {
  torch::set_num_threads(1);
  const TransformerConfig model{
      .layers = 3, .width = 16, .heads = 2, .context = kContext, .vocabulary = kVocabulary};
  const Plan plan =
      make_plan(transformer_layers(model), {.ranks = cut.ranks, .replicas = cut.replicas});
  TrainConfig train;
  train.batch = train.microbatches = kRows;
  train.microbatch = 1;
  std::map<int, std::string> texts;
  std::mutex mutex;
  run_ranks(plan.placement.ranks, [&](Transport& transport) {
    Trainer trainer({.train = train, .shard_optimizer = cut.sharded, .steps = 4},
                    transformer(model), plan, transport);
    auto generator = at::detail::createCPUGenerator(keyed(1));
    const torch::Tensor tokens =
        torch::randint(0, kVocabulary, {kRows, kContext}, generator, torch::kInt64);
    trainer.step({tokens, tokens}, {});
    for (const Flip& each : flips)
      if (each.rank == transport.rank()) flip(trainer.pipeline().weights(), each);
    const std::string text = differing_copies(trainer.pipeline(), transport, 0);
    const std::scoped_lock lock(mutex);
    texts[transport.rank()] = text;
  });
  for (const auto& [rank, text] : texts) EXPECT_EQ(text, texts.at(0)) << "rank " << rank;
  return texts;
}

TEST(Copies, AreTheSameAfterAStep) {
  EXPECT_EQ(found({}, {}).at(1), "") << "tied embeddings";
  EXPECT_EQ(found({.replicas = {2}}, {}).at(1), "");
  EXPECT_EQ(found({.replicas = {3, 1}}, {}).at(1), "");
  EXPECT_EQ(found({.replicas = {2}, .sharded = true}, {}).at(1), "");
}

TEST(Copies, OneBitOfOneReplicaIsFound) {
  for (const int bit : {0, 13, 31})
    EXPECT_EQ(found({.ranks = 1, .replicas = {3}}, {{2, "blocks.1.mlp.up.weight", bit}}).at(0),
              "blocks.1.mlp.up.weight on rank 2 is not what it is on ranks 0 and 1");
}

TEST(Copies, TheTwoEndsOfATiedMatrixAreCompared) {
  EXPECT_EQ(found({}, {{1, "embedding.weight", 3}}).at(0),
            "embedding.weight on rank 1 is not what it is on rank 0");
}

TEST(Copies, TheFirstOfTheModelIsNamedWithAllWhoDiffer) {
  EXPECT_EQ(found({.ranks = 1, .replicas = {4}}, {{1, "blocks.2.mlp.up.weight", 3},
                                                  {1, "blocks.0.mlp.up.weight", 3},
                                                  {3, "blocks.0.mlp.up.weight", 4}})
                .at(2),
            "blocks.0.mlp.up.weight on ranks 1 and 3 is not what it is on ranks 0 and 2");
}

TEST(Copies, WhatOneRankHoldsAloneIsNobodysCopy) {
  EXPECT_EQ(found({}, {{1, "blocks.2.mlp.up.weight", 3}}).at(0), "");
}

}  // namespace
}  // namespace headrace
