// Each operation against plain autograd.
#include <cmath>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "headrace/model/ops/op.h"
#include "headrace/model/precision.h"

namespace headrace {
namespace {

using torch::Tensor;
using Weights = std::vector<Tensor>;

constexpr std::int64_t kSequences = 3, kTokens = 5;

struct Case {
  std::string name;
  Operation operation;
  std::int64_t in;
  std::function<Tensor(const Tensor& x, const Weights& weights)> plain;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

Tensor rms(const Tensor& x, const Tensor& weight, double epsilon) {
  return x * torch::rsqrt(x.square().mean(-1, true) + epsilon) * weight;
}

// Of a head's halves, by the formula with complex numbers.
Tensor turned(const Tensor& heads, double theta) {
  const std::int64_t width = heads.size(-1);
  const Tensor angles =
      torch::arange(kTokens, torch::kFloat64).unsqueeze(1) *
      torch::pow(theta, -torch::arange(0, width, 2, torch::kFloat64) / width).unsqueeze(0);
  const Tensor turn = torch::polar(torch::ones_like(angles), angles).to(torch::kComplexFloat);
  const Tensor numbers = torch::complex(heads.slice(-1, 0, width / 2), heads.slice(-1, width / 2));
  const Tensor result = numbers * turn.unsqueeze(1);
  return torch::cat({torch::real(result), torch::imag(result)}, -1);
}

Tensor attention(const Tensor& x, std::int64_t heads, std::int64_t shared, std::int64_t width) {
  const auto part = [&](std::int64_t first, std::int64_t count) {
    return x.slice(1, first * width, (first + count) * width)
        .reshape({kSequences, kTokens, count, width})
        .transpose(1, 2);
  };
  const Tensor k = part(heads, shared).repeat_interleave(heads / shared, 1),
               v = part(heads + shared, shared).repeat_interleave(heads / shared, 1);
  const Tensor hidden = torch::ones({kTokens, kTokens}, torch::kBool).triu(1);
  const Tensor scores =
      torch::matmul(part(0, heads), k.transpose(2, 3)) / std::sqrt(static_cast<double>(width));
  return torch::matmul(scores.masked_fill(hidden, -INFINITY).softmax(-1), v)
      .transpose(1, 2)
      .reshape({kSequences * kTokens, heads * width});
}

std::vector<Case> cases() {
  namespace F = torch::nn::functional;
  std::vector<Case> all = {
      {"layer_norm", NormOp{"norm", 6, false, 1e-3}, 6,
       [](const Tensor& x, const Weights& w) {
         const Tensor centred = x - x.mean(-1, true);
         return centred / (centred.square().mean(-1, true) + 1e-3).sqrt() * w[0] + w[1];
       }},
      {"rms_norm", NormOp{"norm", 6, true, 1e-3}, 6,
       [](const Tensor& x, const Weights& w) { return rms(x, w[0], 1e-3); }},
      {"linear", LinearOp{.in = 4, .parts = {{"up", 7}}}, 4,
       [](const Tensor& x, const Weights& w) { return torch::matmul(x, w[0].t()) + w[1]; }},
      {"linear_without_bias", LinearOp{.in = 4, .parts = {{"up", 7}}, .has_bias = false}, 4,
       [](const Tensor& x, const Weights& w) { return torch::matmul(x, w[0].t()); }},
      {"linear_of_parts", LinearOp{.in = 4, .parts = {{"q", 6}, {"k", 2}, {"v", 3}}}, 4,
       [](const Tensor& x, const Weights& w) {
         return torch::cat({torch::matmul(x, w[0].t()) + w[1], torch::matmul(x, w[2].t()) + w[3],
                            torch::matmul(x, w[4].t()) + w[5]},
                           1);
       }},
      {"head_norm", HeadNormOp{"k_norm", 1, 2, 4, 1e-3}, 16,
       [](const Tensor& x, const Weights& w) {
         const Tensor normed = rms(x.slice(1, 4, 12).reshape({-1, 2, 4}), w[0], 1e-3);
         return torch::cat({x.slice(1, 0, 4), normed.reshape({-1, 8}), x.slice(1, 12)}, 1);
       }},
      {"rotary", RotaryOp{.heads = 3, .head_width = 4, .theta = 100}, 16,
       [](const Tensor& x, const Weights&) {
         const Tensor heads = x.slice(1, 0, 12).reshape({kSequences, kTokens, 3, 4});
         return torch::cat({turned(heads, 100).reshape({-1, 12}), x.slice(1, 12)}, 1);
       }},
      {"attention", AttentionOp{2, 2, 4}, 24,
       [](const Tensor& x, const Weights&) { return attention(x, 2, 2, 4); }},
      {"attention_of_shared_heads", AttentionOp{4, 2, 4}, 32,
       [](const Tensor& x, const Weights&) { return attention(x, 4, 2, 4); }},
  };
  const std::vector<std::pair<Activation, std::function<Tensor(const Tensor&)>>> activations = {
      {Activation::GeluTanh,
       [](const Tensor& x) {
         return 0.5 * x * (1 + torch::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x.pow(3))));
       }},
      {Activation::Gelu,
       [](const Tensor& x) { return 0.5 * x * (1 + torch::erf(x / std::sqrt(2.0))); }},
      {Activation::Relu, [](const Tensor& x) { return torch::relu(x); }},
      {Activation::Silu, [](const Tensor& x) { return x * torch::sigmoid(x); }}};
  for (const auto& [kind, of] : activations) {
    const std::string name = std::to_string(static_cast<int>(kind));
    all.push_back({"activation_" + name, ActivationOp{kind, 8}, 8,
                   [of = of](const Tensor& x, const Weights&) { return of(x); }});
    all.push_back(
        {"gated_" + name, GatedOp{kind, 4}, 8, [of = of](const Tensor& x, const Weights&) {
           return of(x.slice(1, 0, 4)) * x.slice(1, 4);
         }});
  }
  return all;
}

class Ops : public testing::TestWithParam<Case> {
 protected:
  Weights weights() const {
    Weights all;
    for (const ParameterSpec& parameter : parameters_of(GetParam().operation, "layer"))
      all.push_back(torch::randn(parameter.shape).requires_grad_(true));
    return all;
  }
  OpContext context(WeightGradients* sink) const {
    return {.sequences = kSequences, .tokens = kTokens, .sink = sink};
  }
  // Result, gradient of the rows.
  std::pair<Tensor, Tensor> run(const Weights& weights, WeightGradients* sink) const {
    const auto op =
        std::visit([](const auto& kind) { return make_op(kind); }, GetParam().operation);
    const torch::NoGradGuard no_grad;
    const Direct direct;
    const OpWeights given = {weights.data(), weights.data()};
    Kept kept;
    const Tensor y = op->forward(x_.clone(), given, context(sink), kept).clone();
    return {y, op->backward(dy(y.size(1)), given, context(sink), kept)};
  }
  static Tensor dy(std::int64_t width) {
    torch::manual_seed(9);
    return torch::randn({kSequences * kTokens, width});
  }

  void SetUp() override {
    torch::manual_seed(4);
    x_ = torch::randn({kSequences * kTokens, GetParam().in});
  }
  Tensor x_;
};

TEST_P(Ops, ForwardAndBackwardArePlainAutogradsOnes) {
  const Weights ours = weights();
  Weights plain;
  for (const Tensor& weight : ours) plain.push_back(weight.detach().clone().requires_grad_(true));
  const auto [y, dx] = run(ours, nullptr);
  const Tensor x = x_.clone().requires_grad_(true);
  const Tensor expected = GetParam().plain(x, plain);
  expected.backward(dy(expected.size(1)));
  EXPECT_TRUE(torch::allclose(y, expected, 1e-5, 1e-6)) << (y - expected).abs().max();
  EXPECT_TRUE(torch::allclose(dx, x.grad(), 1e-4, 1e-5)) << (dx - x.grad()).abs().max();
  for (std::size_t i = 0; i < ours.size(); ++i)
    EXPECT_TRUE(torch::allclose(ours[i].grad(), plain[i].grad(), 1e-4, 1e-5)) << i;
}

TEST_P(Ops, WeightGradientsThatArePutOffAreTheSameBits) {
  const Weights at_once = weights();
  Weights later;
  for (const Tensor& weight : at_once)
    later.push_back(weight.detach().clone().requires_grad_(true));
  WeightGradients sink;
  sink.defer(true);
  const Tensor dx = run(at_once, nullptr).second;
  EXPECT_TRUE(torch::equal(run(later, &sink).second, dx));
  for (const auto& work : sink.take()) work();
  for (std::size_t i = 0; i < later.size(); ++i)
    EXPECT_TRUE(torch::equal(later[i].grad(), at_once[i].grad())) << i;
}

TEST_P(Ops, FrozenParametersGetNoGradient) {
  Weights frozen = weights();
  for (Tensor& weight : frozen) weight.requires_grad_(false);
  run(frozen, nullptr);
  for (const Tensor& weight : frozen) EXPECT_FALSE(weight.grad().defined());
}

INSTANTIATE_TEST_SUITE_P(All, Ops, testing::ValuesIn(cases()), [](const auto& each) {
  return each.param.name;
});

// Llama 3.1's published numbers: frequencies that turn often stay, slow ones are eight times slower.
TEST(Rotary, ScalesFrequenciesAsLlama3Does) {
  RotaryOp rotary{.heads = 1, .head_width = 128, .theta = 500000};
  const std::vector<double> plain = rotary.frequencies();
  rotary.scaling = RotaryOp::Scaling::Llama3;
  rotary.factor = 8;
  rotary.original = 8192;
  const std::vector<double> scaled = rotary.frequencies();
  EXPECT_EQ(scaled.front(), plain.front());
  EXPECT_DOUBLE_EQ(scaled.back(), plain.back() / 8);
  int between = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    EXPECT_LE(scaled[i], plain[i]);
    EXPECT_GE(scaled[i], plain[i] / 8 * (1 - 1e-12));
    between += scaled[i] < plain[i] && scaled[i] > plain[i] / 8 ? 1 : 0;
  }
  EXPECT_GT(between, 0);
}

}  // namespace
}  // namespace headrace
