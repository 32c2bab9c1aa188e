#include "tests/runtime/one_process.h"

#include <cmath>
#include <cstddef>
#include <memory>
#include <mutex>

#include <gtest/gtest.h>

#include "headrace/base/keyed.h"
#include "headrace/model/transformer.h"
#include "headrace/runtime/pipeline.h"
#include "headrace/train/optimizer.h"

namespace headrace {
namespace {

using torch::Tensor;

constexpr std::uint64_t kSeed = 11;
constexpr int kSteps = 3;
constexpr std::int64_t kContext = 16, kVocabulary = 97;

OptimizerConfig optimizer_config() {
  OptimizerConfig config;
  config.kind = "adamw";
  config.learning_rate = 1e-2;
  return config;
}

// Tokens of a microbatch, and targets of which some are ignored: microbatches weigh differently.
Tensor tokens(const Case& c, std::int64_t step, int microbatch, const char* what) {
  const std::int64_t rows = microbatch + 1 == c.microbatches ? c.last_rows : c.rows;
  auto generator = at::detail::createCPUGenerator(keyed(kSeed, what, step, microbatch));
  return torch::randint(0, kVocabulary, {rows, kContext}, generator, torch::kInt64);
}

Tensor targets_of(const Case& c, std::int64_t step, int microbatch) {
  Tensor targets = tokens(c, step, microbatch, "targets");
  targets[0].slice(0, 0, 3 * (microbatch % 4)).fill_(-100);
  return targets;
}

double normaliser(const Case& c, std::int64_t step) {
  std::int64_t valid = 0;
  for (int m = 0; m < c.microbatches; ++m)
    valid += targets_of(c, step, m).ne(-100).sum().item<std::int64_t>();
  return 1.0 / static_cast<double>(valid);
}

// A leaf of a layer, with a gradient for each replica of the layer's stage.
struct Leaf {
  Tensor value;
  Tensors gradients;
};

// Adds a copy to `all`, or expects it to equal the copy another rank has put there.
void put(std::map<std::string, Tensor>& all, const std::string& name, const Tensor& value) {
  const auto [found, is_new] = all.emplace(name, value.detach().clone());
  if (!is_new) {
    EXPECT_TRUE(torch::equal(found->second, value))
        << "copies of " << name << " differ between ranks";
  }
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

}  // namespace

std::vector<LayerSpec> model_of(const Case& c) {
  return transformer({.layers = c.layers,
                      .width = 32,
                      .heads = 4,
                      .context = kContext,
                      .vocabulary = kVocabulary,
                      .tied = c.tied,
                      .dropout = c.dropout,
                      .family = c.family,
                      .kv_heads = c.family == Family::Gpt ? 0 : 2});
}

Outcome one_process(const Case& c, std::vector<int> replicas) {
  const std::vector<LayerSpec> model = model_of(c);
  replicas.resize(model.size(), 1);
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<Tensors> weights;
  for (const LayerSpec& spec : model) {
    layers.push_back(spec.build());
    weights.push_back(initial_weights(spec.parameters, {.seed = kSeed}));
  }
  // Distinct parameters in the model's order; a shared one has a leaf and a gradient for each
  // owner.
  std::vector<std::string> names;
  Tensors values;
  std::map<std::string, std::vector<Leaf>> leaves;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (std::size_t at = 0; at < weights[i].size(); ++at) {
      const std::string& name = model[i].parameters[at].name;
      std::vector<Leaf>& owners = leaves[name];
      if (owners.empty()) {
        names.push_back(name);
        values.push_back(weights[i][at].detach());
      } else {
        weights[i][at].set_data(owners.front().value.detach());
      }
      Leaf& leaf = owners.emplace_back();
      leaf.value = weights[i][at];
      for (int k = 0; k < replicas[i]; ++k) leaf.gradients.push_back(torch::zeros_like(leaf.value));
    }
  }
  Optimizer optimizer(optimizer_config(), values);
  Outcome outcome;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    for (auto& [name, owners] : leaves)
      for (Leaf& leaf : owners)
        for (Tensor& gradient : leaf.gradients) gradient.zero_();
    double loss = 0;
    for (int m = 0; m < c.microbatches; ++m) {
      Context context;
      context.key = keyed(keyed(kSeed, "dropout", step), m);
      context.targets = targets_of(c, step, m);
      context.normaliser = normaliser(c, step);
      context.precision = c.precision;
      Tensors passed = {tokens(c, step, m, "inputs")};
      for (auto& [name, owners] : leaves)
        for (Leaf& leaf : owners)
          leaf.value.mutable_grad() =
              leaf.gradients[static_cast<std::size_t>(m) % leaf.gradients.size()];
      for (std::size_t i = 0; i < layers.size(); ++i)
        passed = layers[i]->forward(passed, context, {.weights = weights[i]});
      passed[0].backward(torch::full_like(passed[0], c.backward_scale));
      loss += passed[0].item<double>();
    }
    double squares = 0;
    Tensors sums;
    for (const std::string& name : names) {
      Tensor sum;
      for (const Leaf& leaf : leaves.at(name))
        for (const Tensor& gradient : leaf.gradients)
          sum = sum.defined() ? sum + gradient : gradient.clone();
      sums.push_back(sum /= c.backward_scale);  // a power of two: exact
      const double norm = torch::linalg_vector_norm(sum).item<double>();
      squares += norm * norm;
    }
    const double norm = std::sqrt(squares);
    outcome.losses.push_back(loss);
    outcome.norms.push_back(norm);
    auto& gradients = outcome.gradients.emplace_back();
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (c.clip > 0 && norm > c.clip) sums[i].mul_(c.clip / norm);
      gradients.emplace(names[i], sums[i].clone());
    }
    optimizer.step(1e-2, values, sums);
  }
  for (std::size_t i = 0; i < names.size(); ++i)
    outcome.weights.emplace(names[i], values[i].clone());
  return outcome;
}

std::vector<int> replicas_of_layers(const Plan& plan) {
  std::vector<int> replicas;
  for (int i = 0; i < static_cast<int>(plan.layers.size()); ++i)
    replicas.push_back(plan.placement.replicas(plan.stage_of(i)));
  return replicas;
}

Plan plan_of(const Case& c, PlanWish wish) {
  wish.microbatches = c.microbatches;
  return make_plan(layers_of(model_of(c)), wish);
}

Outcome pipelined(const Case& c, const PlanWish& wish, bool sharded, const LocalOptions& local) {
  Outcome outcome;
  outcome.gradients.resize(kSteps);
  std::mutex mutex;
  const std::vector<LayerSpec> model = model_of(c);
  const Plan plan = plan_of(c, wish);
  const auto rank_work = [&](Transport& transport) {
    Pipeline pipeline(model, plan, transport,
                      {.seed = kSeed, .precision = c.precision, .sharded = sharded});
    const Weights& weights = pipeline.weights();
    Optimizer optimizer(optimizer_config(), pipeline.to_update().values);
    for (std::int64_t step = 0; step < kSteps; ++step) {
      const StepInput input{.step = step,
                            .microbatches = c.microbatches,
                            .inputs = [&](int m) { return tokens(c, step, m, "inputs"); },
                            .targets = [&](int m) { return targets_of(c, step, m); }};
      const StepResult result = pipeline.train(
          input,
          {.normaliser = normaliser(c, step), .clip = c.clip, .backward_scale = c.backward_scale});
      std::unique_lock lock(mutex);
      for (std::size_t i = 0; i < weights.size(); ++i)
        if (pipeline.gradients().sum(i).defined())
          put(outcome.gradients[static_cast<std::size_t>(step)], weights.name(i),
              pipeline.gradients().sum(i));
      const ToUpdate update = pipeline.to_update();
      optimizer.step(1e-2, update.values, update.gradients);
      if (transport.rank() == 0) {
        outcome.losses.push_back(result.loss);
        outcome.norms.push_back(result.norm);
      }
      lock.unlock();
      pipeline.gradients().share_values(step);
    }
    const std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < weights.size(); ++i)
      put(outcome.weights, weights.name(i), weights.value(i));
  };
  run_ranks(plan.placement.ranks, rank_work, local);
  return outcome;
}

Outcome pipelined(const Case& c,
                  const std::string& schedule,
                  int ranks,
                  bool recompute,
                  const LocalOptions& local) {
  const PlanWish wish = {.schedule = schedule,
                         .ranks = ranks,
                         .recompute = recompute ? Recompute::All : Recompute::None};
  return pipelined(c, wish, false, local);
}

void expect_same(const Outcome& actual, const Outcome& expected) {
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_EQ(actual.norms, expected.norms);
  for (std::size_t step = 0; step < kSteps; ++step)
    expect_same_bits(actual.gradients[step], expected.gradients[step], "gradient");
  expect_same_bits(actual.weights, expected.weights, "weight");
}

}  // namespace headrace
