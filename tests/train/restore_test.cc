// A run that is interrupted goes on to the bit, whatever it is cut into afterwards: three steps, a
// snapshot, three steps under another cut are six steps under one.
#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/model/transformer.h"
#include "headrace/train/trainer.h"
#include "headrace/transport/local.h"
#include "tests/train/random_batch.h"

namespace headrace {
namespace {

using torch::Tensor;

constexpr int kHalf = 3;
constexpr std::int64_t kRows = 8, kContext = 8, kVocabulary = 41;

struct Cut {
  std::string schedule = "1f1b";
  int ranks = 1;
  std::vector<int> replicas = {1};
  bool sharded = false;
  bool recompute = false;
};

struct Training {
  bool tied = true;
  double dropout = 0.1;
  std::string precision = "fp32";
  double loss_scale = 65536;
  std::string optimizer = "adamw";
  double momentum = 0;
  double clip = 0.5;
};

OptimizerConfig optimizer_of(const Training& training) {
  return {.kind = training.optimizer,
          .learning_rate = 0.02,
          .warmup = 2,
          .momentum = training.momentum,
          .clip = training.clip};
}

TrainConfig config_of(const Training& training) {
  TrainConfig config;
  config.batch = kRows;
  config.microbatch = 1;
  config.microbatches = kRows;
  config.seed = 3;
  config.precision = training.precision;
  config.loss_scale = training.loss_scale;
  return config;
}

// What a run of some steps gives, and what it leaves.
struct Outcome {
  std::vector<double> losses, norms;
  std::vector<bool> overflows;
  Snapshot snapshot;  // of all ranks
};

Outcome run(const Training& training,
            const Cut& cut,
            int steps,
            const std::optional<Snapshot>& from = std::nullopt) {
  const TransformerConfig model{.layers = 3,
                                .width = 16,
                                .heads = 2,
                                .context = kContext,
                                .vocabulary = kVocabulary,
                                .tied = training.tied,
                                .dropout = training.dropout};
  const Plan plan = make_plan(transformer_layers(model),
                              {.schedule = cut.schedule,
                               .ranks = cut.ranks,
                               .replicas = cut.replicas,
                               .recompute = cut.recompute ? Recompute::All : Recompute::None});
  Outcome outcome;
  std::mutex mutex;
  run_ranks(plan.placement.ranks, [&](Transport& transport) {
    Trainer trainer({.train = config_of(training),
                     .optimizer = optimizer_of(training),
                     .shard_optimizer = cut.sharded,
                     .steps = 2 * kHalf},
                    transformer(model), plan, transport);
    if (from) trainer.restore(*from);
    for (int i = 0; i < steps; ++i) {
      const TrainerStep step =
          trainer.step(random_batch(trainer.steps_done(), kRows, kContext, kVocabulary), {});
      if (transport.rank() != 0) continue;
      outcome.losses.push_back(step.record.loss);
      outcome.norms.push_back(step.record.norm);
      outcome.overflows.push_back(step.record.skipped);
    }
    Snapshot share = trainer.snapshot();
    const std::lock_guard lock(mutex);
    const std::size_t before = outcome.snapshot.weights.size(), mine = share.weights.size();
    outcome.snapshot.step = share.step;
    outcome.snapshot.seed = share.seed;
    if (!outcome.snapshot.numbers.empty()) {
      EXPECT_EQ(outcome.snapshot.numbers, share.numbers);
    }
    outcome.snapshot.numbers = share.numbers;
    outcome.snapshot.weights.merge(share.weights);
    outcome.snapshot.first.merge(share.first);
    outcome.snapshot.second.merge(share.second);
    EXPECT_EQ(outcome.snapshot.weights.size(), before + mine) << "a parameter has two homes";
  });
  return outcome;
}

void expect_same(const NamedTensors& actual, const NamedTensors& expected, const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (const auto& [name, tensor] : expected)
    EXPECT_TRUE(torch::equal(actual.at(name), tensor)) << what << " of " << name;
}

template <class T>
std::vector<T> second_half(const std::vector<T>& values) {
  return {values.begin() + kHalf, values.end()};
}

// NaN, of schedules without a norm, is equal to itself.
std::string text(const std::vector<double>& values) {
  std::ostringstream out;
  out.precision(17);
  for (const double value : values) out << value << " ";
  return out.str();
}

void expect_goes_on(const Training& training, const Cut& before, const Cut& after) {
  const Outcome whole = run(training, before, 2 * kHalf);
  const Outcome first = run(training, before, kHalf);
  EXPECT_EQ(first.snapshot.step, kHalf);
  const Outcome rest = run(training, after, kHalf, first.snapshot);
  EXPECT_EQ(text(rest.losses), text(second_half(whole.losses)));
  EXPECT_EQ(text(rest.norms), text(second_half(whole.norms)));
  EXPECT_EQ(rest.overflows, second_half(whole.overflows));
  EXPECT_EQ(rest.snapshot.numbers, whole.snapshot.numbers);
  expect_same(rest.snapshot.weights, whole.snapshot.weights, "weight");
  expect_same(rest.snapshot.first, whole.snapshot.first, "first moment");
  expect_same(rest.snapshot.second, whole.snapshot.second, "second moment");
}

class Restore : public testing::TestWithParam<std::tuple<int, int, bool>> {};

TEST_P(Restore, GoesOnWithAnyNumberOfRanks) {
  torch::set_num_threads(1);
  const auto& [before, after, tied] = GetParam();
  expect_goes_on({.tied = tied}, {.ranks = before}, {.ranks = after});
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         Restore,
                         testing::Combine(testing::Values(1, 2, 3, 4),
                                          testing::Values(1, 2, 3, 4),
                                          testing::Bool()));

TEST(RestoreAcross, FamiliesOfSchedules) {
  torch::set_num_threads(1);
  const std::vector<Cut> cuts = {{.schedule = "gpipe", .ranks = 2},
                                 {.schedule = "interleaved", .ranks = 2},
                                 {.schedule = "zb-v", .ranks = 2, .recompute = true},
                                 {.schedule = "zb-h1", .ranks = 3}};
  for (const Cut& before : cuts)
    for (const Cut& after : cuts) {
      SCOPED_TRACE(before.schedule + " to " + after.schedule);
      expect_goes_on({}, before, after);
    }
}

// Gradients of replicas are added up in an order of their own: they go on as replicas, cut as one
// likes.
TEST(RestoreAcross, ReplicasAndShards) {
  torch::set_num_threads(1);
  for (const bool tied : {true, false})
    for (const bool sharded : {false, true})
      for (const int ranks : {1, 2, 3}) {
        SCOPED_TRACE(testing::Message()
                     << "tied " << tied << ", sharded " << sharded << ", to " << ranks << " ranks");
        expect_goes_on({.tied = tied}, {.ranks = 2, .replicas = {2}, .sharded = sharded},
                       {.ranks = ranks, .replicas = {2}, .sharded = !sharded});
      }
}

// The scale comes down in the first steps, and is on the move when the run is interrupted.
TEST(RestoreAcross, TheLossScaleOfFp16) {
  torch::set_num_threads(1);
  const Training training{.precision = "fp16", .loss_scale = 1ULL << 32U};
  const Outcome whole = run(training, {.ranks = 2}, 2 * kHalf);
  EXPECT_EQ(std::ranges::count(whole.overflows, true), 2 * kHalf) << "it is to be on the move";
  EXPECT_EQ(whole.snapshot.numbers.at("updates"), 0);
  expect_goes_on(training, {.ranks = 2}, {.ranks = 3});
  // And where it has come to rest.
  expect_goes_on({.precision = "fp16", .loss_scale = 1024}, {.ranks = 2}, {.ranks = 1});
}

TEST(RestoreAcross, OptimizersOfEveryKind) {
  torch::set_num_threads(1);
  expect_goes_on({.optimizer = "sgd"}, {.ranks = 2}, {.ranks = 3});
  expect_goes_on({.optimizer = "sgd", .momentum = 0.9}, {.ranks = 3}, {.ranks = 2});
}

// Every run of an asynchronous schedule drains at its end. What it computes depends on its stages.
TEST(RestoreAcross, AsynchronousSchedules) {
  torch::set_num_threads(1);
  for (const std::string schedule : {"pipedream", "pipedream-2bw"}) {
    const Cut cut{.schedule = schedule, .ranks = 3};
    expect_goes_on({.tied = false, .clip = 0}, cut, cut);
  }
}

TEST(Restore, NamesWhatIsMissing) {
  Outcome outcome = run({}, {}, 1);
  const auto failure = [&] {
    try {
      run({}, {}, 1, outcome.snapshot);
    } catch (const std::exception& error) {
      return std::string(error.what());
    }
    return std::string("nothing failed");
  };
  outcome.snapshot.first.erase("blocks.1.mlp.up.bias");
  EXPECT_NE(failure().find("no first moment of blocks.1.mlp.up.bias"), std::string::npos);
  outcome.snapshot.weights["embedding.weight"] = torch::zeros({3, 16});
  EXPECT_NE(failure().find("the weight of embedding.weight has the shape [3, 16]"),
            std::string::npos);
}

// A copy: what is trained afterwards leaves no trace in it.
TEST(Snapshot, IsOfItsMoment) {
  const TransformerConfig model{
      .layers = 1, .width = 16, .heads = 2, .context = kContext, .vocabulary = kVocabulary};
  const Plan plan = make_plan(transformer_layers(model), {});
  run_ranks(1, [&](Transport& transport) {
    Trainer trainer({.train = config_of({}), .steps = 9}, transformer(model), plan, transport);
    trainer.step(random_batch(0, kRows, kContext, kVocabulary), {});
    const Snapshot once = trainer.snapshot();
    const double sum = once.first.at("head.norm.weight").sum().item<double>();
    const double loss = trainer.step(random_batch(1, kRows, kContext, kVocabulary), {}).record.loss;
    EXPECT_EQ(once.first.at("head.norm.weight").sum().item<double>(), sum);
    // Given back in the midst of a run, where casts of the old weights might be kept.
    trainer.restore(once);
    EXPECT_EQ(trainer.step(random_batch(1, kRows, kContext, kVocabulary), {}).record.loss, loss);
  });
}

}  // namespace
}  // namespace headrace
