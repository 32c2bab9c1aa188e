// What passes from stage to stage: any number of tensors of any type and shape, with and without a
// gradient, of sizes that change from microbatch to microbatch and from step to step; stages that
// are frozen, or have nothing to train, or whose input wants no gradient.
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/runtime/executor.h"
#include "headrace/runtime/stage.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/lower.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

using torch::Tensor;

constexpr std::int64_t kRows = 2, kWidth = 6;
constexpr int kMicrobatches = 8;

// A layer with one matrix; `work` is given it.
class Simple : public Layer {
 public:
  using Work = Tensors (*)(const Tensors&, const Tensor&, const Context&);

  explicit Simple(Work work) : work_(work) {}
  Tensors forward(const Tensors& inputs,
                  const Context& context,
                  const StageContext& stage) override {
    return work_(inputs, stage.weights[0], context);
  }
  bool is_foreign() const override { return true; }

 private:
  Work work_;
};

class Without : public Layer {  // nothing to train
 public:
  Tensors forward(const Tensors& inputs, const Context&, const StageContext&) override {
    Tensors outputs = inputs;
    outputs[0] = inputs[0].tanh();
    return outputs;
  }
};

// ids → hidden, a mask, lengths, a factor in double precision, and nothing in between.
Tensors begin(const Tensors& inputs, const Tensor& weight, const Context&) {
  const Tensor& ids = inputs[0];
  const Tensor hidden = torch::one_hot(ids, kWidth).to(torch::kFloat32).matmul(weight);
  return {hidden,
          ids.ne(0),
          ids.sum(1).to(torch::kInt32),
          Tensor(),
          torch::full({}, 0.5, torch::kFloat64),
          torch::empty({0, 3})};
}

// One more tensor, with a gradient, goes on beside the rest.
Tensors branch(const Tensors& inputs, const Tensor& weight, const Context&) {
  Tensors outputs = inputs;
  outputs[0] = inputs[0].matmul(weight).masked_fill(inputs[1].logical_not().unsqueeze(-1), 0);
  outputs[3] = inputs[0] * 2;
  return outputs;
}

// All come together in one.
Tensors join(const Tensors& inputs, const Tensor& weight, const Context&) {
  const Tensor lengths = inputs[2].to(torch::kFloat32).view({-1, 1, 1});
  return {(inputs[0] + inputs[3].matmul(weight)) * inputs[4].to(torch::kFloat32) + lengths};
}

Tensors end(const Tensors& inputs, const Tensor& weight, const Context& context) {
  return {inputs[0].matmul(weight).pow(2).sum() * context.normaliser};
}

struct Built {
  std::unique_ptr<Layer> layer;
  Tensors weights;
  std::string name;
};

std::vector<Built> build(const std::vector<bool>& trained) {
  std::vector<Built> all;
  const auto add = [&](const std::string& name, Simple::Work work) {
    Tensors weights = initial_weights({{name, {kWidth, kWidth}, 0, 0.5}}, {.seed = 7});
    const std::size_t simple = all.size() > 2 ? all.size() - 1 : all.size();
    weights[0].requires_grad_(trained[simple]);
    all.push_back({std::make_unique<Simple>(work), weights, name});
  };
  add("begin", begin);
  add("branch", branch);
  all.push_back({std::make_unique<Without>(), {}, "without"});
  add("join", join);
  add("end", end);
  return all;
}

// Lengths differ between microbatches and between steps.
Tensor ids_of(int step, int microbatch) {
  torch::manual_seed(100 * step + microbatch);
  return torch::randint(0, kWidth, {kRows, 1 + (3 * microbatch + step) % 5});
}

struct Outcome {
  std::vector<double> losses;
  std::map<std::string, Tensor> gradients;
  bool operator==(const Outcome& other) const {
    return losses == other.losses &&
           std::ranges::equal(gradients, other.gradients, [](const auto& a, const auto& b) {
             return a.first == b.first && a.second.defined() == b.second.defined() &&
                    (!a.second.defined() || torch::equal(a.second, b.second));
           });
  }
};

void note(Outcome& outcome, const std::string& name, const Tensors& weights) {
  for (const Tensor& weight : weights) outcome.gradients[name] = weight.grad();
}

Outcome plain(const std::vector<bool>& trained) {
  const std::vector<Built> all = build(trained);
  Outcome outcome;
  for (int step = 0; step < 2; ++step)
    for (int m = 0; m < kMicrobatches; ++m) {
      Tensors values = {ids_of(step, m)};
      Context context;
      context.normaliser = 0.1;
      for (const Built& built : all)
        values = built.layer->forward(values, context, {.weights = built.weights});
      if (values[0].requires_grad()) values[0].backward();
      outcome.losses.push_back(values[0].item<double>());
    }
  for (const Built& built : all) note(outcome, built.name, built.weights);
  return outcome;
}

class IdsIn : public Ends {
 public:
  explicit IdsIn(int step) : step_(step) {}
  Tensors inputs(int m) override { return {ids_of(step_, m)}; }
  void take_outputs(int, const Tensors& outputs) override {
    losses.push_back(outputs[0].item<double>());
  }
  std::vector<double> losses;

 private:
  int step_;
};

Outcome piped(const std::vector<bool>& trained,
              const std::string& name,
              int ranks,
              bool recompute) {
  const Schedule schedule = lower(generate(name, {.ranks = ranks, .microbatches = kMicrobatches}));
  const int stages = schedule.placement.stages();
  Outcome outcome;
  std::mutex mutex;
  run_ranks(ranks, [&](Transport& transport) {
    std::vector<std::unique_ptr<Stage>> mine;
    std::vector<Stage*> pointers;
    std::map<std::string, Tensors> weights;
    for (const int s : schedule.placement.stages_of(transport.rank())) {
      std::vector<Built> all = build(trained);
      const auto count = static_cast<int>(all.size());
      std::vector<std::unique_ptr<Layer>> layers;
      LayersWeights of_layers;
      for (int i = s * count / stages; i < (s + 1) * count / stages; ++i) {
        Built& built = all[static_cast<std::size_t>(i)];
        layers.push_back(std::move(built.layer));
        of_layers.push_back(built.weights);
        weights[built.name] = built.weights;
      }
      mine.push_back(std::make_unique<Stage>(s, std::move(layers), std::move(of_layers),
                                             recompute ? Recompute::All : Recompute::None));
      pointers.push_back(mine.back().get());
    }
    const Stopwatch watch(transport, torch::kCPU);
    Executor executor(transport, schedule.placement, pointers, watch);
    for (int step = 0; step < 2; ++step) {
      IdsIn ends(step);
      executor.run(schedule, {.step = step, .normaliser = [](int) { return 0.1; }}, ends);
      const std::lock_guard lock(mutex);
      outcome.losses.insert(outcome.losses.end(), ends.losses.begin(), ends.losses.end());
    }
    const std::lock_guard lock(mutex);
    for (const auto& [layer, of_layer] : weights) note(outcome, layer, of_layer);
  });
  return outcome;
}

class Boundaries : public testing::TestWithParam<std::tuple<std::string, int, bool>> {};

TEST_P(Boundaries, CarryEverything) {
  torch::set_num_threads(1);
  const auto& [schedule, ranks, recompute] = GetParam();
  const std::vector<std::vector<bool>> cases = {
      {true, true, true, true},    {false, true, true, true},   {false, false, true, true},
      {true, false, false, true},  {false, false, false, true}, {true, true, true, false},
      {false, false, false, false}};
  for (const std::vector<bool>& trained : cases)
    EXPECT_TRUE(piped(trained, schedule, ranks, recompute) == plain(trained))
        << testing::PrintToString(trained);
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         Boundaries,
                         testing::Combine(testing::Values("gpipe", "1f1b", "zb-h1"),
                                          testing::Values(1, 2, 5),
                                          testing::Bool()));

INSTANTIATE_TEST_SUITE_P(Vs,
                         Boundaries,
                         testing::Combine(testing::Values("interleaved", "zb-v"),
                                          testing::Values(2),
                                          testing::Bool()));

}  // namespace
}  // namespace headrace
