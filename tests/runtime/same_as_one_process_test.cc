// The promise of the project: whatever the number of stages and the schedule, losses, every
// gradient, the norm and the updated weights are those of the same model in one process over the
// same microbatches, to the bit.
//
// Longer than most files: one reference, and every way to run beside it.
//
// The reference below uses neither stages nor executor nor transport: a plain loop over the layers.
// Where a stage has r replicas, replica k adds up the gradients of microbatches k, k + r, …, and
// these r sums are added in turn: the reference does the same, and nothing else changes.
#include <algorithm>
#include <cmath>
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

constexpr std::uint64_t kSeed = 11;
constexpr int kSteps = 3;
constexpr std::int64_t kRows = 2, kContext = 16, kVocabulary = 97;

struct Case {
  int microbatches;
  bool tied;
  double dropout;
  double clip;
  int layers = 4;
};

struct Outcome {
  std::vector<double> losses;
  std::vector<double> norms;
  std::vector<std::map<std::string, Tensor>> gradients;  // of each step, after clipping
  std::map<std::string, Tensor> weights;                 // after the last step
};

GptConfig model_of(const Case& c) {
  return {.layers = c.layers,
          .width = 32,
          .heads = 4,
          .context = kContext,
          .vocabulary = kVocabulary,
          .tied = c.tied,
          .dropout = c.dropout};
}

TrainConfig optimizer_config() {
  TrainConfig config;
  config.optimizer = "adamw";
  config.learning_rate = 1e-2;
  return config;
}

// Tokens of a microbatch, and targets of which some are ignored: microbatches weigh differently.
Tensor tokens(std::int64_t step, int microbatch, const char* what) {
  auto generator = at::detail::createCPUGenerator(keyed(kSeed, what, step, microbatch));
  return torch::randint(0, kVocabulary, {kRows, kContext}, generator, torch::kInt64);
}

Tensor targets_of(std::int64_t step, int microbatch) {
  Tensor targets = tokens(step, microbatch, "targets");
  targets[0].slice(0, 0, 3 * (microbatch % 4)).fill_(-100);
  return targets;
}

double loss_scale(std::int64_t step, int microbatches) {
  std::int64_t valid = 0;
  for (int m = 0; m < microbatches; ++m)
    valid += targets_of(step, m).ne(-100).sum().item<std::int64_t>();
  return 1.0 / static_cast<double>(valid);
}

// A leaf of a layer, with a gradient for each replica of the layer's stage.
struct Leaf {
  Tensor value;
  Tensors gradients;
};

Outcome one_process(const Case& c, std::vector<int> replicas = {}) {
  const std::vector<LayerSpec> model = gpt(model_of(c));
  replicas.resize(model.size(), 1);
  std::vector<std::unique_ptr<Layer>> layers;
  for (const LayerSpec& spec : model) layers.push_back(spec.build({.seed = kSeed}));
  // Distinct parameters in the model's order; a shared one has a leaf and a gradient for each
  // owner.
  std::vector<OwnedParameter> parameters;
  std::map<std::string, std::vector<Leaf>> leaves;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (Parameter& parameter : layers[i]->parameters()) {
      OwnedParameter* known = nullptr;
      for (OwnedParameter& other : parameters)
        if (other.name == parameter.spec.name) known = &other;
      if (known == nullptr) {
        known = &parameters.emplace_back();
        known->name = parameter.spec.name;
        known->value = parameter.value;
      } else {
        parameter.value.set_data(known->value.detach());
      }
      Leaf& leaf = leaves[parameter.spec.name].emplace_back();
      leaf.value = parameter.value;
      for (int k = 0; k < replicas[i]; ++k)
        leaf.gradients.push_back(torch::zeros_like(parameter.value));
    }
  }
  std::vector<OwnedParameter*> all;
  for (OwnedParameter& parameter : parameters) all.push_back(&parameter);
  Optimizer optimizer(optimizer_config(), all);
  Outcome outcome;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    for (auto& [name, owners] : leaves)
      for (Leaf& leaf : owners)
        for (Tensor& gradient : leaf.gradients) gradient.zero_();
    double loss = 0;
    for (int m = 0; m < c.microbatches; ++m) {
      Context context;
      context.key = keyed(keyed(kSeed, "dropout", step), m);
      context.targets = targets_of(step, m);
      context.loss_scale = loss_scale(step, c.microbatches);
      Tensors values = {tokens(step, m, "inputs")};
      for (auto& [name, owners] : leaves)
        for (Leaf& leaf : owners)
          leaf.value.mutable_grad() =
              leaf.gradients[static_cast<std::size_t>(m) % leaf.gradients.size()];
      for (const auto& layer : layers) values = layer->forward(values, context);
      values[0].backward();
      loss += values[0].item<double>();
    }
    double squares = 0;
    for (OwnedParameter& parameter : parameters) {
      Tensor sum;
      for (const Leaf& leaf : leaves.at(parameter.name))
        for (const Tensor& gradient : leaf.gradients)
          sum = sum.defined() ? sum + gradient : gradient.clone();
      parameter.gradient = sum;
      const double norm = torch::linalg_vector_norm(sum).item<double>();
      squares += norm * norm;
    }
    const double norm = std::sqrt(squares);
    outcome.losses.push_back(loss);
    outcome.norms.push_back(norm);
    auto& gradients = outcome.gradients.emplace_back();
    for (OwnedParameter& parameter : parameters) {
      if (c.clip > 0 && norm > c.clip) parameter.gradient.mul_(c.clip / norm);
      gradients.emplace(parameter.name, parameter.gradient.clone());
    }
    optimizer.step(1e-2);
  }
  for (OwnedParameter& parameter : parameters)
    outcome.weights.emplace(parameter.name, parameter.value.detach().clone());
  return outcome;
}

// Adds a copy to `all`, or expects it to equal the copy another rank has put there.
void put(std::map<std::string, Tensor>& all, const std::string& name, const Tensor& value) {
  const auto [found, is_new] = all.emplace(name, value.detach().clone());
  if (!is_new) {
    EXPECT_TRUE(torch::equal(found->second, value))
        << "copies of " << name << " differ between ranks";
  }
}

Outcome pipelined(const Case& c,
                  const LayoutOptions& options,
                  bool sharded,
                  const LocalOptions& local = {}) {
  Outcome outcome;
  outcome.gradients.resize(kSteps);
  std::mutex mutex;
  const Layout layout = make_layout(options);
  const auto rank_work = [&](Transport& transport) {
    Pipeline pipeline(layout, transport, {.seed = kSeed, .sharded = sharded});
    Optimizer optimizer(optimizer_config(), pipeline.gradients().to_update());
    for (std::int64_t step = 0; step < kSteps; ++step) {
      Work work;
      work.step = step;
      work.microbatches = c.microbatches;
      work.inputs = [&](int m) { return tokens(step, m, "inputs"); };
      work.targets = [&](int m) { return targets_of(step, m); };
      work.loss_scale = loss_scale(step, c.microbatches);
      work.clip = c.clip;
      const StepResult result = pipeline.train(work);
      std::unique_lock lock(mutex);
      for (const OwnedParameter& parameter : pipeline.gradients().parameters())
        if (parameter.gradient.defined())
          put(outcome.gradients[static_cast<std::size_t>(step)], parameter.name,
              parameter.gradient);
      optimizer.step(1e-2);
      if (transport.rank() == 0) {
        outcome.losses.push_back(result.loss);
        outcome.norms.push_back(result.norm);
      }
      lock.unlock();
      pipeline.gradients().share_values(step);
    }
    const std::lock_guard lock(mutex);
    for (const OwnedParameter& parameter : pipeline.gradients().parameters())
      put(outcome.weights, parameter.name, parameter.value);
  };
  run_ranks(layout.placement.ranks, rank_work, local);
  return outcome;
}

Outcome pipelined(const Case& c,
                  const std::string& schedule,
                  int ranks,
                  bool recompute,
                  const LocalOptions& local = {}) {
  LayoutOptions options;
  options.model = gpt(model_of(c));
  options.schedule = schedule;
  options.ranks = ranks;
  if (recompute) options.recompute = {-1};
  return pipelined(c, options, false, local);
}

void expect_same_bits(const std::map<std::string, Tensor>& actual,
                      const std::map<std::string, Tensor>& expected,
                      const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (const auto& [name, value] : expected) {
    ASSERT_TRUE(actual.contains(name)) << what << " lacks " << name;
    EXPECT_TRUE(torch::equal(actual.at(name), value)) << what << " of " << name << " differs";
  }
}

void expect_same(const Outcome& actual, const Outcome& expected) {
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_EQ(actual.norms, expected.norms);
  for (std::size_t step = 0; step < kSteps; ++step)
    expect_same_bits(actual.gradients[step], expected.gradients[step], "gradient");
  expect_same_bits(actual.weights, expected.weights, "weight");
}

using Parameters = std::tuple<std::string, int, int, bool, double>;

class SameAsOneProcess : public ::testing::TestWithParam<Parameters> {};

TEST_P(SameAsOneProcess, ToTheBit) {
  torch::set_num_threads(1);
  const auto& [schedule, ranks, microbatches, tied, dropout] = GetParam();
  for (const double clip : {0.0, 0.05}) {
    const Case c{microbatches, tied, dropout, clip};
    const Outcome expected = one_process(c);
    ASSERT_GT(expected.norms[0], 0.05) << "clipping would not be active";
    for (const bool recompute : {false, true}) {
      SCOPED_TRACE(testing::Message() << "clip " << clip << ", recompute " << recompute);
      expect_same(pipelined(c, schedule, ranks, recompute), expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         SameAsOneProcess,
                         ::testing::Combine(::testing::Values("gpipe", "1f1b"),
                                            ::testing::Values(1, 2, 3, 4),
                                            ::testing::Values(1, 2, 3, 8),
                                            ::testing::Bool(),
                                            ::testing::Values(0.0, 0.1)),
                         [](const auto& param_info) {
                           return "s" + std::get<0>(param_info.param) + "_P" +
                                  std::to_string(std::get<1>(param_info.param)) + "_M" +
                                  std::to_string(std::get<2>(param_info.param)) +
                                  (std::get<3>(param_info.param) ? "_tied" : "_untied") +
                                  (std::get<4>(param_info.param) > 0 ? "_dropout" : "");
                         });

// Every other synchronous schedule with one replica a stage, split backwards among them.
class EverySchedule : public ::testing::TestWithParam<std::tuple<std::string, int, int>> {};

TEST_P(EverySchedule, ToTheBit) {
  torch::set_num_threads(1);
  const auto& [schedule, ranks, microbatches] = GetParam();
  const Case c{microbatches, true, 0.1, 0.05};
  expect_same(pipelined(c, schedule, ranks, false), one_process(c));
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         EverySchedule,
                         ::testing::Combine(::testing::Values("eager-1f1b",
                                                              "interleaved",
                                                              "bfs",
                                                              "zb-h1",
                                                              "zb-h2",
                                                              "zb-auto",
                                                              "zb-v",
                                                              "v-half",
                                                              "v-min",
                                                              "1f1b-v",
                                                              "gis",
                                                              "dualpipe-v"),
                                            ::testing::Values(2, 3),
                                            ::testing::Values(6, 12)),
                         [](const auto& param_info) {
                           std::string name = std::get<0>(param_info.param) + "_P" +
                                              std::to_string(std::get<1>(param_info.param)) + "_M" +
                                              std::to_string(std::get<2>(param_info.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return "s_" + name;
                         });

// Replicas: pipelines beside one another, stages with replicas of their own, schedules that keep
// two copies of the weights; the optimizer whole or sharded.
struct Replicated {
  std::string schedule;
  int ranks;
  std::vector<int> replicas;
  int microbatches;
};

class WithReplicas : public ::testing::TestWithParam<std::tuple<Replicated, bool, bool>> {};

TEST_P(WithReplicas, ToTheBit) {
  torch::set_num_threads(1);
  const auto& [given, tied, sharded] = GetParam();
  const Case c{given.microbatches, tied, 0.1, 0.05};
  LayoutOptions options;
  options.model = gpt(model_of(c));
  options.schedule = given.schedule;
  options.ranks = given.ranks;
  options.replicas = given.replicas;
  const Layout layout = make_layout(options);
  std::vector<int> replicas;
  for (int i = 0; i < static_cast<int>(layout.model.size()); ++i)
    replicas.push_back(layout.placement.replicas(layout.stage_of(i)));
  expect_same(pipelined(c, options, sharded), one_process(c, replicas));
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         WithReplicas,
                         ::testing::Combine(::testing::Values(Replicated{"1f1b", 1, {4}, 6},
                                                              Replicated{"1f1b", 2, {2}, 8},
                                                              Replicated{"1f1b", 2, {3}, 7},
                                                              Replicated{"gpipe", 2, {2}, 5},
                                                              Replicated{"1f1b", 2, {3, 1}, 9},
                                                              Replicated{"1f1b", 2, {1, 3}, 9},
                                                              Replicated{"1f1b", 3, {1, 2, 1}, 8},
                                                              Replicated{"gpipe", 2, {2, 3}, 6},
                                                              Replicated{"interleaved", 2, {2}, 8},
                                                              Replicated{"zb-h1", 2, {2}, 8},
                                                              Replicated{"zb-v", 2, {2}, 8},
                                                              Replicated{"chimera", 2, {1}, 4},
                                                              Replicated{"chimera", 4, {1}, 8},
                                                              Replicated{"chimera", 2, {2}, 8},
                                                              Replicated{"dualpipe", 2, {1}, 8},
                                                              Replicated{"dualpipe", 4, {1}, 8}),
                                            ::testing::Bool(),
                                            ::testing::Bool()),
                         [](const auto& param_info) {
                           const Replicated& given = std::get<0>(param_info.param);
                           std::string name =
                               "s_" + given.schedule + "_P" + std::to_string(given.ranks) + "_r";
                           for (const int r : given.replicas) name += std::to_string(r);
                           name += "_M" + std::to_string(given.microbatches);
                           if (std::get<1>(param_info.param)) name += "_tied";
                           if (std::get<2>(param_info.param)) name += "_sharded";
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Numbers of layers that the stages do not divide: none is left out.
TEST(UnevenLayers, ToTheBit) {
  torch::set_num_threads(1);
  struct Sizes {
    int layers, ranks;
    std::string schedule;
  };
  for (const Sizes& sizes : std::vector<Sizes>{{30, 4, "1f1b"},
                                               {13, 4, "1f1b"},
                                               {10, 3, "1f1b"},
                                               {7, 2, "1f1b"},
                                               {10, 4, "interleaved"},
                                               {40, 8, "interleaved"},
                                               {13, 3, "zb-v"}}) {
    SCOPED_TRACE(testing::Message() << sizes.layers << " layers, " << sizes.ranks << " ranks");
    const Case c{8, true, 0, 0.05, sizes.layers};
    expect_same(pipelined(c, sizes.schedule, sizes.ranks, false), one_process(c));
  }
}

// Messages that are handed over late, from buffers that must still be whole then.
TEST(SlowTransport, ToTheBit) {
  torch::set_num_threads(1);
  const Case c{8, true, 0.1, 0.05};
  const Outcome expected = one_process(c);
  for (const char* schedule : {"gpipe", "1f1b", "zb-h1"}) {
    SCOPED_TRACE(schedule);
    expect_same(pipelined(c, schedule, 4, false, {.delay = 0.005}), expected);
  }
}

}  // namespace
}  // namespace headrace
