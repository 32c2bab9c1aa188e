#include "headrace/runtime/pipeline.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/model/transformer.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/tensor/memory.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using torch::Tensor;

TransformerConfig tiny(int vocabulary = 97) {
  return {.layers = 4,
          .width = 32,
          .heads = 4,
          .context = 16,
          .vocabulary = vocabulary,
          .tied = true,
          .dropout = 0};
}

Plan plan(int ranks,
          const std::string& schedule = "1f1b",
          const TransformerConfig& config = tiny()) {
  return make_plan(transformer_layers(config), {.schedule = schedule, .ranks = ranks});
}

StepInput input_of(std::int64_t step, int microbatches, const TransformerConfig& config = tiny()) {
  const auto tokens = [=](int m) {
    auto generator = at::detail::createCPUGenerator(static_cast<std::uint64_t>(1000 * step + m));
    return torch::randint(0, config.vocabulary, {2, config.context}, generator, torch::kInt64);
  };
  return {.step = step, .microbatches = microbatches, .inputs = tokens, .targets = tokens};
}

StepResult train(Pipeline& pipeline,
                 const StepInput& input,
                 const TransformerConfig& config = tiny()) {
  return pipeline.train(input, {.normaliser = 1.0 / (2.0 * config.context * input.microbatches)});
}

std::string failure_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing failed";
}

TEST(Pipeline, NamesTheParameterWhereTheNormIsNotFinite) {
  std::mutex mutex;
  std::map<int, std::string> texts;
  for (const int bad_stage : {0, 3}) {
    texts.clear();
    run_ranks(4, [&](Transport& transport) {
      Pipeline pipeline(transformer(tiny()), plan(4), transport, {.seed = 1});
      const std::string name = bad_stage == 0 ? "embedding.position.weight" : "head.norm.bias";
      for (std::size_t i = 0; i < pipeline.weights().size(); ++i)
        if (pipeline.weights().name(i) == name) pipeline.weights().value(i)[0] = std::nan("");
      const StepResult result = train(pipeline, input_of(0, 4));
      EXPECT_FALSE(result.finite);
      EXPECT_NE(result.worst, "");
      const std::string text = pipeline.find_fault(input_of(0, 4), {});
      const std::lock_guard lock(mutex);
      texts[transport.rank()] = text;
    });
    ASSERT_EQ(texts.size(), 4U);
    for (const auto& [rank, text] : texts) {
      EXPECT_THAT(text, AllOf(HasSubstr(bad_stage == 0 ? "embedding" : "head"),
                              HasSubstr("held a NaN before the step")));
      EXPECT_EQ(text, texts[0]) << "rank " << rank;
    }
  }
}

TEST(Pipeline, EvaluationDoesNotDisturbTraining) {
  std::vector<double> plain, disturbed;
  for (const bool evaluates : {false, true}) {
    run_ranks(2, [&](Transport& transport) {
      Pipeline pipeline(transformer(tiny()), plan(2), transport, {.seed = 1});
      for (std::int64_t step = 0; step < 4; ++step) {
        const StepResult result = train(pipeline, input_of(step, 3));
        const Weights& weights = pipeline.weights();
        for (std::size_t i = 0; i < weights.size(); ++i) {
          const Tensor& gradient = pipeline.gradients().sum(i);
          if (evaluates && weights.name(i) == "head.norm.weight") {
            const Tensor before = gradient.clone();
            pipeline.evaluate(input_of(100 + step, 5));
            EXPECT_TRUE(torch::equal(before, gradient));
          } else if (evaluates && weights.name(i) == "embedding.position.weight") {
            pipeline.evaluate(input_of(100 + step, 5));
          }
          weights.value(i).sub_(gradient, 0.1);
        }
        if (transport.rank() == 0) (evaluates ? disturbed : plain).push_back(result.loss);
      }
    });
  }
  EXPECT_EQ(plain, disturbed);
}

TEST(Pipeline, EvaluatesWhatOneProcessDoes) {
  std::vector<Evaluation> all;
  for (const int ranks : {1, 2, 4}) {
    run_ranks(ranks, [&](Transport& transport) {
      Pipeline pipeline(transformer(tiny()), plan(ranks), transport, {.seed = 1});
      const Evaluation evaluation = pipeline.evaluate(input_of(0, 3));
      if (transport.rank() + 1 == ranks) all.push_back(evaluation);
    });
  }
  for (const Evaluation& evaluation : all) {
    EXPECT_EQ(evaluation.loss, all[0].loss);
    EXPECT_EQ(evaluation.counts, all[0].counts);
    EXPECT_GT(evaluation.loss, 0);
  }
}

TEST(Pipeline, AFailedActionNamesRankStageStepAndAction) {
  const std::string text = failure_of([] {
    run_ranks(3, [](Transport& transport) {
      Pipeline pipeline(transformer(tiny()), plan(3), transport, {.seed = 1});
      StepInput w = input_of(7, 4);
      w.targets = [](int m) -> Tensor {
        check(m != 2, "the disk is gone");
        return torch::zeros({2, 16}, torch::kInt64);
      };
      train(pipeline, w);
    });
  });
  EXPECT_THAT(text,
              AllOf(HasSubstr("rank 2 (stage 2)"), HasSubstr(", step 8, 2F2: the disk is gone")));
}

// Eight steps are done then.
TEST(Pipeline, AFailedEvaluationNamesTheStepBeforeIt) {
  const std::string text = failure_of([] {
    run_ranks(2, [](Transport& transport) {
      Pipeline pipeline(transformer(tiny()), plan(2), transport, {.seed = 1});
      StepInput w = input_of(8, 4);
      w.targets = [](int) -> Tensor { throw std::bad_alloc(); };
      pipeline.evaluate(w);
    });
  });
  EXPECT_THAT(text, HasSubstr("rank 1 (stage 1), evaluation after step 8, 1F0: memory ran out"));
}

class Dropped : public Ends {
 public:
  explicit Dropped(const StepInput& input) : input_(input) {}
  Tensors inputs(int m) override { return {input_.inputs(m)}; }
  torch::Tensor targets(int m) override { return input_.targets(m); }
  void take_outputs(int, const Tensors&) override {}

 private:
  const StepInput& input_;
};

// The most microbatches that each stage holds: what the checker says of the schedule, P − s for
// 1F1B and M for GPipe.
TEST(Pipeline, HoldsAsManyMicrobatchesAsTheScheduleSays) {
  for (const std::string schedule : {"1f1b", "gpipe"}) {
    const Plan p = plan(4, schedule);
    const std::vector<LayerSpec> model = transformer(tiny());
    const Schedule lowered = schedule_of(p, 8, Pass::Train);
    std::vector<int> peaks(4, 0);
    run_ranks(4, [&](Transport& transport) {
      const int s = transport.rank();
      std::vector<std::unique_ptr<Layer>> layers;
      LayersWeights weights;
      for (int i = p.starts[static_cast<std::size_t>(s)]; i < p.end(s); ++i) {
        const LayerSpec& spec = model[static_cast<std::size_t>(i)];
        layers.push_back(spec.build());
        weights.push_back(initial_weights(spec.parameters, {.seed = 1}));
        for (Tensor& weight : weights.back()) weight.mutable_grad() = torch::zeros_like(weight);
      }
      Stage stage(s, std::move(layers), std::move(weights), Recompute::None);
      const Stopwatch watch(transport, torch::kCPU);
      Executor executor(transport, p.placement, {&stage}, watch);
      const StepInput input = input_of(0, 8);
      Dropped ends(input);
      RunOptions options;
      options.before_action = [&](const Action&) {
        int& peak = peaks[static_cast<std::size_t>(s)];
        peak = std::max(peak, static_cast<int>(stage.in_flight()));
      };
      executor.run(lowered, options, ends);
      EXPECT_EQ(stage.in_flight(), 0U);
    });
    EXPECT_EQ(peaks, validate(lowered).peak_activations) << schedule;
    if (schedule == "1f1b")
      EXPECT_THAT(peaks, ElementsAre(4, 3, 2, 1));
    else
      EXPECT_THAT(peaks, ElementsAre(8, 8, 8, 8));
  }
}

// 1F1B's memory does not grow with the number of microbatches, on any stage; the last one's logits
// are the largest.
TEST(Pipeline, MemoryOf1F1BIsFlatInMicrobatches) {
  install_memory_accounts();
  const TransformerConfig config = tiny(8000);
  std::vector<std::vector<double>> peaks;
  for (const int microbatches : {4, 8, 32}) {
    std::vector<MemoryAccount> accounts(3);
    run_ranks(3, [&](Transport& transport) {
      MemoryAccount& account = accounts[static_cast<std::size_t>(transport.rank())];
      const MemoryScope scope(account);
      Pipeline pipeline(transformer(config), plan(3, "1f1b", config), transport, {.seed = 1});
      for (std::int64_t step = 0; step < 2; ++step)
        train(pipeline, input_of(step, microbatches, config), config);
    });
    auto& list = peaks.emplace_back();
    for (const MemoryAccount& account : accounts)
      list.push_back(static_cast<double>(account.peak()));
  }
  for (std::size_t rank = 0; rank < 3; ++rank) {
    EXPECT_GT(peaks[0][rank], 0);
    EXPECT_NEAR(peaks[2][rank] / peaks[0][rank], 1, 0.02) << "rank " << rank;
    EXPECT_NEAR(peaks[1][rank] / peaks[0][rank], 1, 0.02) << "rank " << rank;
  }
}

TEST(Pipeline, RefusesSchedulesThatTrainingDoesNotRun) {
  EXPECT_THAT(failure_of([] { schedule_of(plan(2, "seq1f1b"), 4, Pass::Train); }),
              HasSubstr("splits sequences"));
  EXPECT_THAT(failure_of([] { plan(2, "1f1"); }), HasSubstr("1f1b"));
}

}  // namespace
}  // namespace headrace
