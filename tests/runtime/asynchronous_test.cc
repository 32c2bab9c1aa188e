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
#include "headrace/model/gpt.h"
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

const GptConfig kModel = {.layers = 4,
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

TrainConfig optimizer_config() {
  TrainConfig config;
  config.optimizer = "adamw";
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
  for (const LayerSpec& spec : gpt(kModel)) layers.push_back(spec.build({.seed = kSeed}));
  std::vector<OwnedParameter> parameters;  // the newest weights
  for (const auto& layer : layers)
    for (Parameter& parameter : layer->parameters()) {
      OwnedParameter& owned = parameters.emplace_back();
      owned.name = parameter.spec.name;
      owned.value = parameter.value.detach().clone();
    }
  std::vector<OwnedParameter*> all;
  for (OwnedParameter& parameter : parameters) all.push_back(&parameter);
  Optimizer optimizer(optimizer_config(), all);
  Outcome outcome;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    std::vector<std::vector<Tensor>> versions;  // [update][parameter]
    const auto keep = [&] {
      auto& now = versions.emplace_back();
      for (const OwnedParameter& parameter : parameters) now.push_back(parameter.value.clone());
    };
    keep();
    double loss = 0;
    for (int m = 0; m < microbatches; ++m) {
      std::size_t next = 0;
      for (std::size_t i = 0; i < layers.size(); ++i) {
        const int stage = plan.stage_of(static_cast<int>(i));
        const int version = version_of(schedule, ranks, stage, m);
        for (Parameter& parameter : layers[i]->parameters()) {
          const torch::NoGradGuard no_grad;
          parameter.value.copy_(versions.at(static_cast<std::size_t>(version))[next]);
          if (m % group == 0) parameter.value.mutable_grad() = torch::zeros_like(parameter.value);
          ++next;
        }
      }
      Context context;
      context.key = keyed(keyed(kSeed, "dropout", step), m);
      context.targets = tokens(step, m, "targets");
      context.loss_scale = 1.0 / static_cast<double>(group * kRows * kContext);
      Tensors values = {tokens(step, m, "inputs")};
      for (const auto& layer : layers) values = layer->forward(values, context);
      values[0].backward();
      loss += values[0].item<double>() / (microbatches / group);
      if ((m + 1) % group != 0) continue;
      next = 0;
      for (const auto& layer : layers)
        for (Parameter& parameter : layer->parameters())
          parameters[next++].gradient = parameter.value.grad();
      optimizer.step(kRate);
      keep();
    }
    outcome.losses.push_back(loss);
  }
  for (const OwnedParameter& parameter : parameters)
    outcome.weights.emplace(parameter.name, parameter.value);
  return outcome;
}

Outcome pipelined(const Plan& plan, int microbatches) {
  Outcome outcome;
  std::mutex mutex;
  run_ranks(plan.placement.ranks, [&](Transport& transport) {
    Pipeline pipeline(gpt(kModel), plan, transport, {.seed = kSeed});
    std::map<int, Optimizer> optimizers;
    for (const auto& stage : pipeline.stages())
      optimizers.try_emplace(stage->index(), optimizer_config(),
                             pipeline.gradients().of_stage(*stage));
    for (std::int64_t step = 0; step < kSteps; ++step) {
      Work work;
      work.step = step;
      work.microbatches = microbatches;
      work.inputs = [&](int m) { return tokens(step, m, "inputs"); };
      work.targets = [&](int m) { return tokens(step, m, "targets"); };
      work.scale_of_update = [](const std::vector<int>& update) {
        return 1.0 /
               static_cast<double>(static_cast<std::int64_t>(update.size()) * kRows * kContext);
      };
      work.update = [&](int stage) { optimizers.at(stage).step(kRate); };
      const StepResult result = pipeline.train(work);
      if (transport.rank() == 0) outcome.losses.push_back(result.loss);
    }
    const std::lock_guard lock(mutex);
    for (const OwnedParameter& parameter : pipeline.gradients().parameters())
      outcome.weights.emplace(parameter.name, parameter.value.detach().clone());
  });
  return outcome;
}

class Asynchronous : public ::testing::TestWithParam<std::tuple<std::string, int, int, bool>> {};

TEST_P(Asynchronous, FollowsTheUpdateLaw) {
  torch::set_num_threads(1);
  const auto& [schedule, ranks, rounds, recompute] = GetParam();
  const int microbatches = rounds * ranks;
  const Plan plan =
      make_plan(gpt_layers(kModel), {.schedule = schedule,
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
