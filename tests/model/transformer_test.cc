#include "headrace/model/transformer.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "headrace/base/error.h"
#include "headrace/model/operations.h"
#include "tests/model/plain_layers.h"

namespace headrace {
namespace {

using ::testing::HasSubstr;
using torch::Tensor;

const TransformerConfig kTiny{.layers = 2,
                              .width = 32,
                              .heads = 4,
                              .context = 16,
                              .vocabulary = 97,
                              .tied = false,
                              .dropout = 0};

// GPT-2 as its paper and published code have it, in plain libtorch operations, apart from ours.
Tensor plain_gpt(const std::map<std::string, Tensor>& p,
                 const TransformerConfig& config,
                 const Tensor& ids) {
  const auto norm = [&](const Tensor& x, const std::string& name) {
    const Tensor mean = x.mean(-1, true);
    const Tensor variance = (x - mean).pow(2).mean(-1, true);
    return (x - mean) / (variance + 1e-5).sqrt() * p.at(name + ".weight") + p.at(name + ".bias");
  };
  const std::int64_t rows = ids.size(0), length = ids.size(1), width = config.width,
                     each = width / config.heads;
  Tensor x =
      p.at("embedding.weight").index({ids}) + p.at("embedding.position.weight").slice(0, 0, length);
  const Tensor hidden = torch::ones({length, length}, torch::kBool).triu(1);
  for (int b = 0; b < config.layers; ++b) {
    const std::string block = "blocks." + std::to_string(b);
    const std::string a = block + ".attention", m = block + ".mlp";
    const Tensor qkv =
        torch::matmul(norm(x, a + ".norm"), p.at(a + ".qkv.weight").t()) + p.at(a + ".qkv.bias");
    const auto head = [&](std::int64_t part) {
      return qkv.slice(2, part * width, (part + 1) * width)
          .reshape({rows, length, config.heads, each})
          .permute({0, 2, 1, 3});
    };
    const Tensor scores =
        torch::matmul(head(0), head(1).transpose(2, 3)) / std::sqrt(static_cast<double>(each));
    const Tensor mixed = torch::matmul(scores.masked_fill(hidden, -INFINITY).softmax(-1), head(2));
    x = x +
        torch::matmul(mixed.permute({0, 2, 1, 3}).reshape({rows, length, width}),
                      p.at(a + ".out.weight").t()) +
        p.at(a + ".out.bias");
    const Tensor up =
        torch::matmul(norm(x, m + ".norm"), p.at(m + ".up.weight").t()) + p.at(m + ".up.bias");
    const Tensor gelu =
        0.5 * up * (1 + torch::tanh(std::sqrt(2 / M_PI) * (up + 0.044715 * up.pow(3))));
    x = x + torch::matmul(gelu, p.at(m + ".down.weight").t()) + p.at(m + ".down.bias");
  }
  const std::string out = config.tied ? "embedding.weight" : "head.weight";
  return torch::matmul(norm(x, "head.norm"), p.at(out).t());
}

TEST(Gpt, HasTheLogitsLossAndGradientsOfThePlainModel) {
  const PlainLayers model(kTiny, 3);
  const auto& ours = model.by_name;
  std::map<std::string, Tensor> plain;
  for (const auto& [name, value] : ours) {
    // Away from the initial ones and zeros, so that norms and biases matter.
    torch::NoGradGuard no_grad;
    value.add_(torch::randn_like(value) * 0.05);
    plain.emplace(name, value.detach().clone().requires_grad_(true));
  }
  const Tensor ids = torch::randint(97, {3, 16}, torch::kInt64);
  Tensor targets = torch::randint(97, {3, 16}, torch::kInt64);
  targets[1].slice(0, 0, 9).fill_(-100);
  const Tensor expected = plain_gpt(plain, kTiny, ids);
  const Tensor logits = model.run(ids, {})[0];
  EXPECT_TRUE(torch::allclose(logits, expected, 1e-4, 1e-5));

  const double scale = 1.0 / (3 * 16 - 9);
  Context context;
  context.targets = targets;
  context.normaliser = scale;
  const Tensor loss = model.run(ids, context)[0];
  const Tensor expected_loss =
      torch::nn::functional::cross_entropy(expected.reshape({-1, 97}), targets.reshape(-1));
  EXPECT_NEAR(loss.item<double>(), expected_loss.item<double>(), 1e-5);
  loss.backward();
  expected_loss.backward();
  for (const auto& [name, value] : ours) {
    EXPECT_TRUE(torch::allclose(value.grad(), plain.at(name).grad(), 1e-3, 1e-6))
        << name << " differs by " << (value.grad() - plain.at(name).grad()).abs().max();
  }
}

TEST(Gpt, CountsRightPredictionsAmongValidTargets) {
  const PlainLayers model(kTiny, 3);
  const Tensor ids = torch::randint(97, {2, 16}, torch::kInt64);
  Tensor targets = model.run(ids, {})[0].argmax(-1);
  targets[0][0] = (targets[0][0] + 1) % 97;
  targets[1][3] = -100;
  Context context;
  context.training = false;
  context.targets = targets;
  EXPECT_EQ(model.run(ids, context)[1].item<std::int64_t>(), 2 * 16 - 2);
}

TEST(Gpt, InitialValuesDependOnSeedAndNameAlone) {
  const auto whole = PlainLayers(kTiny, 42).by_name;
  std::set<std::string> distinct;
  for (const LayerSpec& spec : transformer(kTiny)) {
    // As a stage that owns just this layer draws them.
    const Tensors alone = initial_weights(spec.parameters, {.seed = 42});
    for (std::size_t i = 0; i < alone.size(); ++i) {
      const std::string& name = spec.parameters[i].name;
      EXPECT_TRUE(torch::equal(alone[i], whole.at(name))) << name;
      if (spec.parameters[i].deviation == 0) continue;
      const Tensor bytes = alone[i].detach().contiguous();
      distinct.emplace(static_cast<const char*>(bytes.data_ptr()), 64);
    }
  }
  // No two drawn parameters begin alike.
  std::size_t drawn = 0;
  for (const LayerSpec& spec : transformer(kTiny))
    for (const ParameterSpec& parameter : spec.parameters) drawn += parameter.deviation > 0 ? 1 : 0;
  EXPECT_EQ(distinct.size(), drawn);
  EXPECT_FALSE(torch::equal(whole.at("embedding.weight"),
                            PlainLayers(kTiny, 43).by_name.at("embedding.weight")));
}

TEST(Gpt, CountsASharedParameterOnce) {
  TransformerConfig tied = kTiny;
  tied.tied = true;
  EXPECT_EQ(parameter_count(transformer_layers(kTiny)) - parameter_count(transformer_layers(tied)),
            97 * 32);
}

TEST(Gpt, DrawsDropoutFromItsKey) {
  const Tensor x = torch::ones({64, 64});
  EXPECT_TRUE(torch::equal(keyed_dropout(x, 0.25, 7), keyed_dropout(x, 0.25, 7)));
  EXPECT_FALSE(torch::equal(keyed_dropout(x, 0.25, 7), keyed_dropout(x, 0.25, 8)));
  EXPECT_NEAR(keyed_dropout(x, 0.25, 7).mean().item<double>(), 1, 0.05);
  EXPECT_NEAR(keyed_dropout(x, 0.25, 7).eq(0).to(torch::kFloat32).mean().item<double>(), 0.25,
              0.03);
}

TEST(Gpt, DeferredWeightGradientsAreTheSameBits) {
  const PlainLayers at_once(kTiny, 5), split(kTiny, 5);
  const Tensor ids = torch::randint(97, {2, 16}, torch::kInt64);
  Context context;
  context.targets = torch::randint(97, {2, 16}, torch::kInt64);
  WeightGradients queue;
  for (int microbatch = 0; microbatch < 2; ++microbatch) {
    at_once.run(ids, context)[0].backward();
    queue.defer(true);
    split.run(ids, context, {.weight_gradients = &queue})[0].backward();
    const auto pending = queue.take();
    EXPECT_EQ(pending.size(), 10U);  // two in each half of two blocks, embedding, head
    for (const auto& work : pending) work();
  }
  for (const auto& [name, value] : split.by_name)
    EXPECT_TRUE(torch::equal(value.grad(), at_once.by_name.at(name).grad())) << name;
}

TEST(Gpt, RefusesSizesThatDoNotFit) {
  const auto refusal = [](const std::function<void(TransformerConfig&)>& change) {
    TransformerConfig config = kTiny;
    change(config);
    try {
      transformer(config);
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  EXPECT_THAT(refusal([](TransformerConfig& c) { c.heads = 5; }), HasSubstr("heads"));
  EXPECT_THAT(refusal([](TransformerConfig& c) { c.layers = 0; }), HasSubstr("layers"));
  EXPECT_THAT(refusal([](TransformerConfig& c) { c.dropout = 1; }), HasSubstr("dropout"));
}

}  // namespace
}  // namespace headrace
