// Asynchronous schedules compute what their rule says: each microbatch with the weights of its
// version, each update applied to the newest weights. PipeDream: a microbatch's version on stage s
// of P lags min(m, P - 1 - s) updates behind. PipeDream-2BW: one update, from the second on.
//
// The reference is a plain loop over microbatches that keeps every version of every stage's
// weights.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/base/keyed.h"
#include "headrace/model/transformer.h"
#include "headrace/runtime/pipeline.h"
#include "headrace/train/optimizer.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

using torch::Tensor;

constexpr std::uint64_t kSeed = 5;
constexpr int kSteps = 2;
constexpr std::int64_t kRows = 2, kContext = 8, kVocabulary = 31;
constexpr double kRate = 0.02;

const TransformerConfig kModel = {.layers = 4,
                                  .width = 16,
                                  .heads = 2,
                                  .context = kContext,
                                  .vocabulary = kVocabulary,
                                  .tied = false,
                                  .dropout = 0.1};

Tensor tokens(std::int64_t step, int microbatch, const char* what) {
  auto generator = at::detail::createCPUGenerator(keyed(kSeed, what, step, microbatch));
  return torch::randint(0, kVocabulary, {kRows, kContext}, generator, torch::kInt64);
}

struct Outcome {
  std::vector<double> losses;
  std::map<std::string, Tensor> weights;
};

OptimizerConfig optimizer_config() {
  OptimizerConfig config;
  config.kind = "adamw";
  return config;
}

// The rule of each schedule: how many updates are behind the weights of microbatch m on stage s.
int version_of(const std::string& schedule, int ranks, int stage, int m) {
  // With one microbatch an update there is nothing to gather.
  if (schedule == "pipedream" || ranks == 1) return std::max(0, m - (ranks - 1 - stage));
  return std::max(0, m / ranks - 1);  // groups of as many microbatches as there are ranks
}

Outcome reference(const std::string& schedule, const Plan& plan, int microbatches) {
  const int ranks = plan.placement.ranks;
  const int group = schedule == "pipedream" ? 1 : ranks;
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<Tensors> leaves;
  std::vector<std::string> names;
  Tensors newest;
  for (const LayerSpec& spec : transformer(kModel)) {
    layers.push_back(spec.build());
    leaves.push_back(initial_weights(spec.parameters, {.seed = kSeed}));
    for (const ParameterSpec& parameter : spec.parameters) names.push_back(parameter.name);
    for (const Tensor& leaf : leaves.back()) newest.push_back(leaf.detach().clone());
  }
  Optimizer optimizer(optimizer_config(), newest);
  Outcome outcome;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    std::vector<Tensors> versions;  // [update][parameter]
    const auto keep = [&] {
      Tensors& now = versions.emplace_back();
      for (const Tensor& value : newest) now.push_back(value.clone());
    };
    keep();
    double loss = 0;
    for (int m = 0; m < microbatches; ++m) {
      std::size_t next = 0;
      for (std::size_t i = 0; i < layers.size(); ++i) {
        const int stage = plan.stage_of(static_cast<int>(i));
        const int version = version_of(schedule, ranks, stage, m);
        for (Tensor& leaf : leaves[i]) {
          const torch::NoGradGuard no_grad;
          leaf.copy_(versions.at(static_cast<std::size_t>(version))[next++]);
          if (m % group == 0) leaf.mutable_grad() = torch::zeros_like(leaf);
        }
      }
      Context context;
      context.key = keyed(keyed(kSeed, "dropout", step), m);
      context.targets = tokens(step, m, "targets");
      context.normaliser = 1.0 / static_cast<double>(group * kRows * kContext);
      Tensors values = {tokens(step, m, "inputs")};
      for (std::size_t i = 0; i < layers.size(); ++i)
        values = layers[i]->forward(values, context, {.weights = leaves[i]});
      values[0].backward();
      loss += values[0].item<double>() / (microbatches / group);
      if ((m + 1) % group != 0) continue;
      Tensors gradients;
      for (const Tensors& layer : leaves)
        for (const Tensor& leaf : layer) gradients.push_back(leaf.grad());
      optimizer.step(kRate, newest, gradients);
      keep();
    }
    outcome.losses.push_back(loss);
  }
  for (std::size_t i = 0; i < names.size(); ++i) outcome.weights.emplace(names[i], newest[i]);
  return outcome;
}

Outcome pipelined(const Plan& plan, int microbatches) {
  Outcome outcome;
  std::mutex mutex;
  run_ranks(plan.placement.ranks, [&](Transport& transport) {
    Pipeline pipeline(transformer(kModel), plan, transport, {.seed = kSeed});
    const Weights& weights = pipeline.weights();
    std::map<int, Optimizer> optimizers;
    for (const auto& stage : pipeline.stages())
      optimizers.try_emplace(stage->index(), optimizer_config(),
                             pipeline.to_update(stage->index()).values);
    for (std::int64_t step = 0; step < kSteps; ++step) {
      const StepInput input{.step = step,
                            .microbatches = microbatches,
                            .inputs = [&](int m) { return tokens(step, m, "inputs"); },
                            .targets = [&](int m) { return tokens(step, m, "targets"); }};
      StepPolicy policy;
      policy.normaliser_of_update = [](const std::vector<int>& update) {
        return 1.0 /
               static_cast<double>(static_cast<std::int64_t>(update.size()) * kRows * kContext);
      };
      policy.update = [&](int stage) {
        const ToUpdate update = pipeline.to_update(stage);
        optimizers.at(stage).step(kRate, update.values, update.gradients);
      };
      const StepResult result = pipeline.train(input, policy);
      if (transport.rank() == 0) outcome.losses.push_back(result.loss);
    }
    const std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < weights.size(); ++i)
      outcome.weights.emplace(weights.name(i), weights.value(i).clone());
  });
  return outcome;
}

class Asynchronous : public ::testing::TestWithParam<std::tuple<std::string, int, int, bool>> {};

TEST_P(Asynchronous, FollowsTheUpdateLaw) {
  torch::set_num_threads(1);
  const auto& [schedule, ranks, rounds, recompute] = GetParam();
  const int microbatches = rounds * ranks;
  const Plan plan = make_plan(transformer_layers(kModel),
                              {.schedule = schedule,
                               .ranks = ranks,
                               .recompute = recompute ? Recompute::All : Recompute::None});
  const Outcome expected = reference(schedule, plan, microbatches);
  const Outcome actual = pipelined(plan, microbatches);
  EXPECT_EQ(actual.losses, expected.losses);
  ASSERT_EQ(actual.weights.size(), expected.weights.size());
  for (const auto& [name, value] : expected.weights)
    EXPECT_TRUE(torch::equal(actual.weights.at(name), value)) << name;
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         Asynchronous,
                         ::testing::Combine(::testing::Values("pipedream", "pipedream-2bw"),
                                            ::testing::Values(1, 2, 3, 4),
                                            ::testing::Values(1, 4),
                                            ::testing::Bool()),
                         [](const auto& param_info) {
                           std::string name = "s_" + std::get<0>(param_info.param) + "_P" +
                                              std::to_string(std::get<1>(param_info.param)) + "_x" +
                                              std::to_string(std::get<2>(param_info.param)) +
                                              (std::get<3>(param_info.param) ? "_recompute" : "");
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace headrace
