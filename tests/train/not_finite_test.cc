// Steps whose loss or gradients are none: nothing is updated anywhere, what made the first such number is named
// alike on every rank and for every cut, and the run ends or goes on as it is told.
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/keyed.h"
#include "headrace/model/transformer.h"
#include "headrace/train/loss_trend.h"
#include "headrace/train/trainer.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::int64_t kRows = 8, kContext = 8, kVocabulary = 41;
constexpr int kBadMicrobatch = 5;
const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInfinite = std::numeric_limits<float>::infinity();

struct Case {
  std::string schedule = "1f1b";
  int ranks = 2;
  std::vector<int> replicas = {1};
  Recompute recompute = Recompute::None;
  std::string not_finite = "end";
  std::int64_t skip_limit = 10;
  std::string precision = "fp32";
  bool tied = true;
  double clip = 1;
};

TransformerConfig model(bool tied) {
  return {.layers = 3,
          .width = 16,
          .heads = 2,
          .context = kContext,
          .vocabulary = kVocabulary,
          .tied = tied};
}

Batch batch_of(std::int64_t step) {
  auto generator = at::detail::createCPUGenerator(keyed(9, step));
  Batch batch;
  batch.inputs = torch::randint(0, kVocabulary, {kRows, kContext}, generator, torch::kInt64);
  batch.targets = torch::randint(0, kVocabulary, {kRows, kContext}, generator, torch::kInt64);
  return batch;
}

// What each rank says of its run.
std::map<int, std::string> on_ranks(const Case& with,
                                    const std::function<void(Trainer&, Transport&)>& run) {
  torch::set_num_threads(1);
  const Plan plan = make_plan(transformer_layers(model(with.tied)), {.schedule = with.schedule,
                                                                     .ranks = with.ranks,
                                                                     .replicas = with.replicas,
                                                                     .recompute = with.recompute});
  TrainConfig train;
  train.batch = train.microbatches = kRows;
  train.microbatch = 1;
  train.precision = with.precision;
  train.not_finite = with.not_finite;
  train.skip_limit = with.skip_limit;
  std::map<int, std::string> failures;
  std::mutex mutex;
  run_ranks(plan.placement.ranks, [&](Transport& transport) {
    Trainer trainer(
        {.train = train, .optimizer = {.learning_rate = 0.01, .clip = with.clip}, .steps = 20},
        transformer(model(with.tied)), plan, transport);
    std::string failure;
    try {
      run(trainer, transport);
    } catch (const Error& error) {
      failure = error.what();
    }
    const std::scoped_lock lock(mutex);
    failures[transport.rank()] = failure;
  });
  return failures;
}

// Puts a number into a weight for one action, and the old one back before the next.
class Poison {
 public:
  Poison(Trainer& trainer, std::string parameter, Kind kind, float number)
      : trainer_(trainer), parameter_(std::move(parameter)), kind_(kind), number_(number) {}

  void operator()(const Action& action) {
    const torch::NoGradGuard no_grad;
    const Weights& weights = trainer_.pipeline().weights();
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (weights.name(i) != parameter_) continue;
      float& value = *weights.value(i).data_ptr<float>();  // unseen by autograd
      if (old_) value = *std::exchange(old_, std::nullopt);
      const auto of_stage = weights.of_stage(action.stage);
      if (action.kind != kind_ || action.microbatch != kBadMicrobatch ||
          std::ranges::find(of_stage, i) == of_stage.end())
        continue;
      old_ = value;
      value = number_;
    }
  }

 private:
  Trainer& trainer_;
  std::string parameter_;
  Kind kind_;
  float number_;
  std::optional<float> old_;
};

std::map<int, std::string> poisoned(const Case& with, const std::string& parameter, float number) {
  return on_ranks(with, [&](Trainer& trainer, Transport&) {
    trainer.step(batch_of(0), {});
    trainer.step(batch_of(1), {.before_action = Poison(trainer, parameter, Kind::Forward, number)});
  });
}

void expect_same_tensors(const NamedTensors& a, const NamedTensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) EXPECT_TRUE(torch::equal(tensor, b.at(name))) << name;
}

TEST(NotFinite, TheFirstLayerIsTheSameForEveryCut) {
  const std::vector<std::pair<Case, std::string>> cases = {
      {{.ranks = 1}, "on rank 0 (stage 0)"},
      {{.ranks = 2}, "on rank 1 (stage 1)"},
      {{.ranks = 4}, "on rank 2 (stage 2)"},
      {{.ranks = 2, .replicas = {2}}, "on rank 3 (stage 1)"},
      {{.schedule = "gpipe", .recompute = Recompute::All}, "on rank 1 (stage 1)"},
      {{.recompute = Recompute::Attention}, "on rank 1 (stage 1)"},
      {{.schedule = "zb-h1"}, "on rank 1 (stage 1)"},
      {{.schedule = "zb-v"}, "(stage 2)"},
      {{.schedule = "interleaved"}, "(stage 2)"}};
  for (const auto& [with, where] : cases) {
    SCOPED_TRACE(testing::Message() << with.schedule << " on " << with.ranks);
    const auto failures = poisoned(with, "blocks.1.mlp.up.weight", kNan);
    for (const auto& [rank, text] : failures) {
      EXPECT_THAT(text,
                  AllOf(HasSubstr("step 2: the loss is nan"), HasSubstr("nothing was updated"),
                        HasSubstr("blocks.1.mlp was the first to make a NaN: in the forward of "
                                  "microbatch 5, "),
                        HasSubstr(where), HasSubstr("train.not_finite")));
      EXPECT_EQ(text, failures.at(0));
    }
  }
}

// The loss is fine, and its gradients leave what fp32 can hold.
TEST(NotFinite, ABackwardIsNamedToo) {
  for (const char* schedule : {"1f1b", "zb-h1", "gpipe"}) {
    const auto failures = on_ranks({.schedule = schedule}, [&](Trainer& trainer, Transport&) {
      trainer.step(batch_of(0), {});
      const auto kind = std::string(schedule) == "zb-h1" ? Kind::BackwardInput : Kind::Backward;
      trainer.step(batch_of(1),
                   {.before_action = Poison(trainer, "blocks.1.mlp.up.weight", kind, kInfinite)});
    });
    for (const auto& [rank, text] : failures)
      EXPECT_THAT(text, AllOf(HasSubstr("step 2: the loss is 3."),
                              HasSubstr("blocks.1.mlp was the first to make "),
                              HasSubstr("in the backward of microbatch 5, on rank 1 (stage 1)")))
          << schedule;
  }
}

TEST(NotFinite, WeightsThatWereSoBeforeAreNamed) {
  const auto failures = on_ranks({}, [](Trainer& trainer, Transport&) {
    trainer.step(batch_of(0), {});
    const Weights& weights = trainer.pipeline().weights();
    for (std::size_t i = 0; i < weights.size(); ++i)
      if (weights.name(i) == "blocks.2.attention.norm.weight") weights.value(i)[3] = kInfinite;
    trainer.step(batch_of(1), {});
  });
  EXPECT_THAT(
      failures.at(0),
      HasSubstr("the weights of blocks.2.attention held an infinite number before the step"));
  EXPECT_EQ(failures.at(1), failures.at(0));
}

// As where a processor has miscounted.
TEST(NotFinite, WhatDoesNotComeAgainIsTold) {
  const auto failures = on_ranks({}, [](Trainer& trainer, Transport&) {
    bool done = false;
    trainer.step(batch_of(0), {.before_action = [&](const Action& action) {
                   if (std::exchange(done, true) || action.stage != 1) return;
                   const Weights& weights = trainer.pipeline().weights();
                   weights.gradients(0).front().view(-1)[0] = kNan;
                 }});
  });
  EXPECT_THAT(failures.at(0), AllOf(HasSubstr("step 1: the loss is 3."),
                                    HasSubstr("the gradient norm nan, first in "),
                                    HasSubstr("done again, the step has only finite numbers")));
}

TEST(NotFinite, ASkippedStepLeavesWeightsAndMomentsAsTheyWere) {
  for (const bool replicas : {false, true}) {
    const Case with{.replicas = {replicas ? 2 : 1}, .not_finite = "skip"};
    const auto failures = on_ranks(with, [](Trainer& trainer, Transport&) {
      trainer.step(batch_of(0), {});
      const Snapshot before = trainer.snapshot();
      const TrainerStep bad = trainer.step(
          batch_of(1),
          {.before_action = Poison(trainer, "blocks.1.mlp.up.weight", Kind::Forward, kInfinite)});
      EXPECT_TRUE(bad.record.skipped);
      EXPECT_THAT(bad.fault, HasSubstr("blocks.1.mlp was the first to make "));
      const Snapshot after = trainer.snapshot();
      EXPECT_EQ(after.step, 2);
      EXPECT_EQ(after.numbers.at("updates"), 1);
      EXPECT_EQ(after.numbers.at("skipped"), 1);
      expect_same_tensors(after.weights, before.weights);
      expect_same_tensors(after.first, before.first);
      expect_same_tensors(after.second, before.second);
      const TrainerStep good = trainer.step(batch_of(2), {});
      EXPECT_FALSE(good.record.skipped);
      EXPECT_TRUE(std::isfinite(good.record.norm));
      EXPECT_EQ(trainer.snapshot().numbers.at("skipped"), 0);
    });
    EXPECT_EQ(failures.at(0), "");
  }
}

TEST(NotFinite, ARunOfSkippedStepsEndsTheRunAlsoAcrossAResume) {
  const Case with{.not_finite = "skip", .skip_limit = 3};
  const auto bad = [](Trainer& trainer) {
    trainer.step(batch_of(1),
                 {.before_action = Poison(trainer, "blocks.1.mlp.up.weight", Kind::Forward, kNan)});
  };
  Snapshot all;
  std::mutex mutex;
  const auto first = on_ranks(with, [&](Trainer& trainer, Transport&) {
    bad(trainer);
    bad(trainer);
    trainer.step(batch_of(2), {});  // and the count begins anew
    bad(trainer);
    bad(trainer);
    Snapshot share = trainer.snapshot();
    const std::scoped_lock lock(mutex);
    share.weights.merge(all.weights);
    share.first.merge(all.first);
    share.second.merge(all.second);
    all = std::move(share);
  });
  EXPECT_EQ(first.at(0), "");
  const auto second = on_ranks(with, [&](Trainer& trainer, Transport&) {
    trainer.restore(all);
    bad(trainer);
  });
  for (const auto& [rank, text] : second)
    EXPECT_THAT(text,
                AllOf(HasSubstr("step 6: "), HasSubstr("with it 3 steps in a row were skipped"),
                      HasSubstr("train.skip_limit")));
}

// Not the loss scale's doing: no other scale would help.
TEST(NotFinite, InFp16AnInfiniteLossIsNoOverflow) {
  const auto failures = poisoned({.precision = "fp16"}, "blocks.1.mlp.norm.weight", kNan);
  EXPECT_THAT(failures.at(0), AllOf(HasSubstr("the loss is nan"), Not(HasSubstr("loss scale"))));
}

TEST(NotFinite, AnAsynchronousStageIsNotUpdated) {
  const auto failures = on_ranks(
      {.schedule = "pipedream", .tied = false, .clip = 0}, [&](Trainer& trainer, Transport&) {
        trainer.step(batch_of(0), {});
        trainer.step(batch_of(1), {.before_action = Poison(trainer, "blocks.1.mlp.up.weight",
                                                           Kind::Forward, kNan)});
      });
  EXPECT_THAT(failures.at(1),
              AllOf(HasSubstr("rank 1 (stage 1), step 2, "), HasSubstr("the gradient of "),
                    HasSubstr("microbatches 5 to 5"), HasSubstr("was not updated")));
}

TEST(LossTrendOf, ASpikeStandsOutOfWhatIsUsual) {
  LossTrend trend;
  for (int i = 0; i < 200; ++i) {
    const double loss = 4 - 0.005 * i + (i % 2 == 0 ? 0.05 : -0.05);
    EXPECT_FALSE(trend.is_spike(loss)) << i;
    trend.add(loss);
  }
  EXPECT_TRUE(trend.is_spike(4.5));
  EXPECT_FALSE(trend.is_spike(1)) << "a fall is none";
  LossTrend other;
  other.set(trend.mean(), trend.deviation(), trend.seen());
  EXPECT_TRUE(other.is_spike(4.5));
}

TEST(LossTrendOf, NothingIsSaidBeforeThereIsSomethingToCompareWith) {
  LossTrend trend;
  for (int i = 0; i < 19; ++i) trend.add(1);
  EXPECT_FALSE(trend.is_spike(100));
}

}  // namespace
}  // namespace headrace
