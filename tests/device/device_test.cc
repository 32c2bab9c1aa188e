// Training on a device is training in one process on it, whatever the number of ranks, and nearly on the CPU; and the
// host waits for it once a step.
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/model/transformer.h"
#include "headrace/tensor/streams.h"
#include "headrace/train/evaluate.h"
#include "headrace/train/trainer.h"
#include "headrace/transport/all_gather.h"
#include "headrace/transport/local.h"
#include "tests/device/test_device.h"
#include "tests/device/under_test.h"
#include "tests/train/random_batch.h"
#include "tests/transport/backends.h"

namespace headrace {
namespace {

constexpr std::int64_t kRows = 4, kContext = 8, kVocabulary = 41;
constexpr int kSteps = 3;

struct Case {
  std::string name;
  std::string schedule = "1f1b";
  int ranks = 1;
  std::vector<int> replicas = {1};
  bool sharded = false;
  bool tied = true;
  double dropout = 0;
  std::string precision = "fp32";
  std::string optimizer = "adamw";
  bool recompute = false;
  std::string over = "local";  // or "c10d", "c10d_rings", "c10d_direct"
  bool spread = false;         // each rank on another device
  int heads = 2;               // of a width of 16 in all
  Family family = Family::Gpt;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

struct Outcome {
  std::vector<double> losses, norms;
  NamedTensors weights;
  std::int64_t waits = 0;             // of the host, in all steps and ranks
  std::int64_t evaluation_waits = 0;  // and in an evaluation
  double evaluation = 0;
};

Outcome run(const Case& c, torch::Device device) {
  torch::set_num_threads(1);
  const TransformerConfig model{.layers = 2,
                                .width = 16,
                                .heads = c.heads,
                                .context = kContext,
                                .vocabulary = kVocabulary,
                                .tied = c.tied,
                                .dropout = c.dropout,
                                .family = c.family,
                                .kv_heads = c.family == Family::Gpt ? 0 : c.heads / 2};
  const Plan plan = make_plan(transformer_layers(model),
                              {.schedule = c.schedule,
                               .ranks = c.ranks,
                               .replicas = c.replicas,
                               .recompute = c.recompute ? Recompute::All : Recompute::None});
  TrainConfig train;
  train.batch = train.microbatches = kRows;
  train.microbatch = 1;
  train.precision = c.precision;
  Outcome outcome;
  std::mutex mutex;
  std::int64_t before = 0;
  const auto waits = [] { return waits_so_far().value_or(0); };
  const auto work = [&](Transport& transport) {
    // As processes with a device each would, and ranks on one device may, each computes on a stream of its own.
    const OwnStream own(transport.device());
    Trainer trainer({.train = train,
                     .optimizer = {.kind = c.optimizer, .warmup = 2, .clip = 0.5},
                     .shard_optimizer = c.sharded,
                     .device = transport.device(),
                     .steps = kSteps},
                    transformer(model), plan, transport);
    const auto meet = [&] { all_gather(transport, {}, -1); };
    meet();
    if (transport.rank() == 0) before = waits();
    meet();
    for (int i = 0; i < kSteps; ++i) {
      const TrainerStep step = trainer.step(random_batch(i, kRows, kContext, kVocabulary), {});
      if (transport.rank() != 0) continue;
      outcome.losses.push_back(step.record.loss);
      outcome.norms.push_back(step.record.norm);
    }
    meet();
    if (transport.rank() == 0) outcome.waits = waits() - before;
    meet();
    const EvaluationRecord evaluation =
        evaluate(trainer.pipeline(), random_batch(kSteps, kRows, kContext, kVocabulary), 1, kSteps);
    meet();
    if (transport.rank() == 0) {
      outcome.evaluation = evaluation.loss;
      outcome.evaluation_waits = waits() - before - outcome.waits;
    }
    meet();
    const std::lock_guard lock(mutex);
    for (const auto& [name, value] : trainer.snapshot().weights)
      outcome.weights[name] = value.cpu();
  };
  if (c.over == "local")
    run_ranks(plan.placement.ranks, work, {.device = device});
  else
    run_c10d(
        plan.placement.ranks, c.over != "c10d", work,
        [&](int rank) {
          return c.spread ? device_under_test(rank % devices_under_test()) : device;
        },
        c.over == "c10d_direct" ? direct_in_place_of_nccl() : DirectPair());
  return outcome;
}

class OnADevice : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (devices_under_test() == 0) GTEST_SKIP() << "there is no GPU";
    if (GetParam().spread && devices_under_test() < 2) GTEST_SKIP() << "there is one device alone";
    order_faults();
  }
};

TEST_P(OnADevice, IsAsInOneProcess) {
  // Replicas add up in another order than one rank does.
  Case one{.name = "one", .replicas = GetParam().replicas};
  one.tied = GetParam().tied;
  one.dropout = GetParam().dropout;
  one.precision = GetParam().precision;
  one.optimizer = GetParam().optimizer;
  one.heads = GetParam().heads;
  one.family = GetParam().family;
  const Outcome expected = run(one, device_under_test());
  const Outcome actual = run(GetParam(), device_under_test());
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_EQ(actual.norms, expected.norms);
  ASSERT_EQ(actual.weights.size(), expected.weights.size());
  for (const auto& [name, value] : expected.weights)
    EXPECT_TRUE(torch::equal(actual.weights.at(name), value)) << name;
  EXPECT_EQ(actual.evaluation, expected.evaluation);
  EXPECT_THAT(order_faults(), testing::IsEmpty());
  // A rank waits for its device once a step, at its end, for its losses and its gradients' norms, however many
  // microbatches and parameters there are; in an evaluation, one with the last stage does.
  if (!waits_so_far()) return;
  const int replicas = GetParam().replicas.front();
  EXPECT_EQ(actual.waits, kSteps * GetParam().ranks * replicas);
  EXPECT_EQ(actual.evaluation_waits, replicas);
}

// The test device's kernels are the CPU's, on tensors that are laid out in another way.
TEST_P(OnADevice, IsNearlyAsOnTheCpu) {
  if (device_under_test().is_cuda() && GetParam().dropout > 0)
    GTEST_SKIP() << "a GPU draws other numbers than the CPU";
  const Outcome expected = run(GetParam(), torch::kCPU);
  const Outcome actual = run(GetParam(), device_under_test());
  for (std::size_t i = 0; i < expected.losses.size(); ++i) {
    EXPECT_NEAR(actual.losses[i], expected.losses[i], looseness() * 1e-5);
    EXPECT_NEAR(actual.norms[i], expected.norms[i], looseness() * 1e-4);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases,
    OnADevice,
    testing::Values(
        Case{.name = "one"},
        Case{.name = "two", .ranks = 2},
        Case{.name = "zb", .schedule = "zb-h1", .ranks = 2, .dropout = 0.1},
        Case{.name = "replicas", .ranks = 2, .replicas = {2}, .sharded = true},
        Case{.name = "recompute", .ranks = 2, .recompute = true},
        Case{.name = "untied", .ranks = 2, .tied = false, .dropout = 0.1},
        Case{.name = "interleaved", .schedule = "interleaved", .ranks = 2, .optimizer = "sgd"},
        Case{.name = "bf16", .ranks = 2, .precision = "bf16"},
        Case{.name = "fp16", .ranks = 2, .precision = "fp16"},
        Case{.name = "llama", .ranks = 2, .heads = 4, .family = Family::Llama},
        Case{.name = "qwen3_bf16",
             .schedule = "zb-h1",
             .ranks = 2,
             .precision = "bf16",
             .recompute = true,
             .over = "c10d",
             .family = Family::Qwen3},
        Case{.name = "narrow_heads", .ranks = 2, .heads = 8},
        Case{.name = "narrow_heads_bf16", .ranks = 2, .precision = "bf16", .heads = 4},
        Case{.name = "c10d", .ranks = 3, .over = "c10d"},
        Case{.name = "c10d_rings", .schedule = "zb-h1", .ranks = 2, .over = "c10d_rings"},
        Case{.name = "c10d_spread", .ranks = 3, .over = "c10d", .spread = true},
        Case{.name = "c10d_spread_replicas",
             .ranks = 2,
             .replicas = {2},
             .over = "c10d_rings",
             .spread = true},
        Case{.name = "c10d_direct", .ranks = 4, .over = "c10d_direct", .spread = true},
        Case{.name = "c10d_direct_both_ways",
             .schedule = "zb-v",
             .ranks = 2,
             .over = "c10d_direct",
             .spread = true},
        Case{.name = "c10d_direct_sharded",
             .schedule = "interleaved",
             .ranks = 2,
             .replicas = {2},
             .sharded = true,
             .over = "c10d_direct",
             .spread = true},
        Case{.name = "c10d_replicas", .ranks = 2, .replicas = {2}, .over = "c10d"},
        Case{.name = "c10d_sharded",
             .ranks = 1,
             .replicas = {2},
             .sharded = true,
             .over = "c10d_rings"}),
    [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace headrace
