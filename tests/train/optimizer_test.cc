// Rates and updates by values worked out by hand, and updates beside libtorch's own optimizers.
#include "headrace/train/optimizer.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace headrace {
namespace {

using torch::Tensor;

std::vector<double> rates(const OptimizerConfig& config, std::int64_t steps) {
  std::vector<double> all;
  for (std::int64_t step = 0; step < steps; ++step)
    all.push_back(learning_rate(config, step, steps));
  return all;
}

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-12) << i;
}

OptimizerConfig with_rates(double rate, double minimum, std::int64_t warmup) {
  OptimizerConfig config;
  config.learning_rate = rate;
  config.minimum_learning_rate = minimum;
  config.warmup = warmup;
  return config;
}

// From the peak to the minimum in six steps: cosines of 30, 60, 90, … degrees.
TEST(LearningRate, ClimbsToTheEndOfTheWarmUpAndFallsToTheLastStep) {
  const double root = std::sqrt(3.0) / 2;
  const std::vector<double> all = rates(with_rates(1, 0.2, 4), 10);
  expect_near(all, {0.25, 0.5, 0.75, 1, 0.6 + 0.4 * root, 0.8, 0.6, 0.4, 0.6 - 0.4 * root, 0.2});
  EXPECT_EQ(all[3], 1);
  EXPECT_EQ(all[9], 0.2);
}

TEST(LearningRate, WithoutWarmUpTheFirstStepHasAllOfIt) {
  expect_near(rates(with_rates(0.4, 0, 0), 3), {0.4, 0.2, 0});
  expect_near(rates(with_rates(0.4, 0, 1), 3), {0.4, 0.2, 0});
  expect_near(rates(with_rates(0.4, 0.1, 0), 2), {0.4, 0.1});
}

// Whatever rounding does on the way.
TEST(LearningRate, OfTheLastStepIsTheMinimumExactly) {
  for (const std::int64_t steps : {2, 3, 7, 100, 1499, 100003})
    for (const std::int64_t warmup : {0, 1})
      for (const double minimum : {0.0, 2e-4, 1e-7})
        EXPECT_EQ(learning_rate(with_rates(4e-3, minimum, warmup), steps - 1, steps), minimum);
}

TEST(LearningRate, IsNotDecayedWhereNoStepIsLeft) {
  expect_near(rates(with_rates(0.4, 0.1, 0), 1), {0.4});
  expect_near(rates(with_rates(0.4, 0.1, 2), 2), {0.2, 0.4});
  expect_near(rates(with_rates(0.4, 0.1, 8), 3), {0.05, 0.1, 0.15});
}

TEST(LearningRate, MayStayConstant) {
  OptimizerConfig config = with_rates(0.4, 0.1, 2);
  config.decay = "constant";
  expect_near(rates(config, 4), {0.2, 0.4, 0.4, 0.4});
}

// A matrix, whose weights decay, and a bias, whose do not, of one number each: 2, with gradients
// 0.5 and then -1.
std::vector<std::vector<double>> two_steps(const OptimizerConfig& config) {
  const Tensors values = {torch::full({1, 1}, 2.0), torch::full({1}, 2.0)};
  Optimizer optimizer(config, values);
  std::vector<std::vector<double>> all;
  for (const double gradient : {0.5, -1.0}) {
    optimizer.step(0.1, values, {torch::full({1, 1}, gradient), torch::full({1}, gradient)});
    all.push_back({values[0].item<double>(), values[1].item<double>()});
  }
  return all;
}

void expect_values(const std::vector<std::vector<double>>& actual,
                   const std::vector<std::vector<double>>& expected) {
  for (std::size_t step = 0; step < expected.size(); ++step)
    for (std::size_t i = 0; i < 2; ++i)
      EXPECT_NEAR(actual[step][i], expected[step][i], 1e-6) << "step " << step << ", " << i;
}

// Moments m = 0.05, v = 0.0125, corrected 0.5 and 0.25: a move by the rate. Then m = -0.055 / 0.19,
// v = 0.061875 / 0.0975. Decay takes a hundredth of the matrix first.
TEST(Optimizer, AdamWByHand) {
  OptimizerConfig config;
  config.kind = "adamw";
  config.weight_decay = 0.1;
  config.beta1 = 0.9;
  config.beta2 = 0.95;
  const double second = 0.1 * (0.055 / 0.19) / std::sqrt(0.061875 / 0.0975);
  expect_values(two_steps(config),
                {{2 * 0.99 - 0.1, 2 - 0.1}, {(2 * 0.99 - 0.1) * 0.99 + second, 2 - 0.1 + second}});
}

// The decay is part of the gradient: 0.7, then -1 + 0.193.
TEST(Optimizer, SgdByHand) {
  OptimizerConfig config;
  config.kind = "sgd";
  config.weight_decay = 0.1;
  expect_values(two_steps(config), {{1.93, 1.95}, {1.93 + 0.1 * 0.807, 1.95 + 0.1}});
}

// Of the matrix 0.7, then 0.9 · 0.7 - 0.807; of the bias 0.5, then 0.9 · 0.5 - 1.
TEST(Optimizer, MomentumByHand) {
  OptimizerConfig config;
  config.kind = "sgd";
  config.weight_decay = 0.1;
  config.momentum = 0.9;
  expect_values(two_steps(config), {{1.93, 1.95}, {1.93 + 0.1 * 0.177, 1.95 + 0.1 * 0.55}});
}

// `theirs` updates the same parameters, the matrices in the first of two groups, over steps of
// changing rates.
template <class Theirs, class Options>
void expect_like_libtorch(const OptimizerConfig& config, Options options) {
  torch::manual_seed(5);
  Tensors ours;
  std::vector<Tensor> matrices, vectors;
  for (int i = 0; i < 3; ++i) {
    for (const std::vector<std::int64_t>& shape :
         std::vector<std::vector<std::int64_t>>{{17, 9 + i}, {9 + i}}) {
      const Tensor value = torch::randn(shape);
      ours.push_back(value.clone());
      (shape.size() > 1 ? matrices : vectors).push_back(value.clone().requires_grad_(true));
    }
  }
  Optimizer optimizer(config, ours);
  Options without_decay = options;
  without_decay.weight_decay(0);
  // What a group leaves at its default it takes from the optimizer's.
  Theirs theirs(
      {torch::optim::OptimizerParamGroup(matrices, std::make_unique<Options>(options)),
       torch::optim::OptimizerParamGroup(vectors, std::make_unique<Options>(without_decay))},
      without_decay);
  for (int step = 0; step < 8; ++step) {
    const double rate = 0.05 / (1 + step);
    Tensors gradients;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      gradients.push_back(torch::randn_like(ours[i]));
      (i % 2 == 0 ? matrices : vectors)[i / 2].mutable_grad() = gradients[i].clone();
    }
    for (torch::optim::OptimizerParamGroup& group : theirs.param_groups())
      group.options().set_lr(rate);
    optimizer.step(rate, ours, gradients);
    theirs.step();
  }
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const Tensor& expected = (i % 2 == 0 ? matrices : vectors)[i / 2];
    EXPECT_TRUE(torch::allclose(ours[i], expected, 1e-5, 1e-6)) << "parameter " << i;
  }
}

TEST(Optimizer, AdamWIsLibtorchs) {
  OptimizerConfig config;
  config.kind = "adamw";
  config.weight_decay = 0.3;
  config.beta1 = 0.8;
  config.beta2 = 0.97;
  config.epsilon = 1e-3;
  expect_like_libtorch<torch::optim::AdamW>(
      config, torch::optim::AdamWOptions(1).betas({0.8, 0.97}).eps(1e-3).weight_decay(0.3));
}

TEST(Optimizer, SgdIsLibtorchs) {
  for (const double momentum : {0.0, 0.7}) {
    OptimizerConfig config;
    config.kind = "sgd";
    config.weight_decay = 0.3;
    config.momentum = momentum;
    expect_like_libtorch<torch::optim::SGD>(
        config, torch::optim::SGDOptions(1).momentum(momentum).weight_decay(0.3));
  }
}

}  // namespace
}  // namespace headrace
