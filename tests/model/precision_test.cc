// Mixed precision and the attention's recompute, on the layers alone.
#include "headrace/model/precision.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/model/transformer.h"
#include "tests/model/plain_layers.h"

namespace headrace {
namespace {

using torch::Tensor;

constexpr std::int64_t kVocabulary = 97;
const TransformerConfig kModel{.layers = 2,
                               .width = 32,
                               .heads = 4,
                               .context = 16,
                               .vocabulary = kVocabulary,
                               .tied = false,
                               .dropout = 0.1};

struct Result {
  double loss = 0;
  std::map<std::string, Tensor> gradients;
};

Context context_of(torch::ScalarType type) {
  Context context;
  context.key = 5;
  context.precision = type;
  context.normaliser = 1.0 / 48;
  auto generator = at::detail::createCPUGenerator(3);
  context.targets = torch::randint(0, kVocabulary, {3, 16}, generator, torch::kInt64);
  return context;
}

Result result_of(const Context& context, const StageContext& stage = {}) {
  auto generator = at::detail::createCPUGenerator(2);
  const Tensor ids = torch::randint(0, kVocabulary, {3, 16}, generator, torch::kInt64);
  const PlainLayers model(kModel, 1);
  const Tensor loss = model.run(ids, context, stage)[0];
  loss.backward(torch::full_like(loss, context.backward_scale));
  Result result;
  result.loss = loss.item<double>();
  for (const auto& [name, weight] : model.by_name) result.gradients.emplace(name, weight.grad());
  return result;
}

class Precision : public testing::TestWithParam<torch::ScalarType> {};

INSTANTIATE_TEST_SUITE_P(Types,
                         Precision,
                         testing::Values(torch::kBFloat16, torch::kFloat16),
                         [](const auto& of) { return std::string(toString(of.param)); });

TEST_P(Precision, LossAndGradientsAreNearThoseOfFp32AndOfItsType) {
  const Result exact = result_of(context_of(torch::kFloat32));
  const Result rounded = result_of(context_of(GetParam()));
  const double step = GetParam() == torch::kFloat16 ? 1.0 / 1024 : 1.0 / 128;  // between numbers
  EXPECT_NEAR(rounded.loss, exact.loss, step);
  EXPECT_NE(rounded.loss, exact.loss);
  for (const auto& [name, gradient] : rounded.gradients) {
    EXPECT_EQ(gradient.scalar_type(), torch::kFloat32) << name;
    const Tensor& expected = exact.gradients.at(name);
    EXPECT_LT((gradient - expected).norm().item<double>(),
              6 * step * expected.norm().item<double>())
        << name;
    EXPECT_FALSE(torch::equal(gradient, expected)) << name;
  }
}

// bf16 has the range of fp32.
TEST(Bf16, AScaleOfTwoToSomePowerLeavesNoTrace) {
  Context context = context_of(torch::kBFloat16);
  const Result plain = result_of(context);
  context.backward_scale = 1024;
  const Result scaled = result_of(context);
  EXPECT_EQ(scaled.loss, plain.loss);
  for (const auto& [name, gradient] : scaled.gradients)
    EXPECT_TRUE(torch::equal(gradient / 1024, plain.gradients.at(name))) << name;
}

TEST(Fp16, NeedsTheScaleForSmallGradients) {
  Context context = context_of(torch::kFloat16);
  context.normaliser = 1e-8;
  EXPECT_EQ(result_of(context).gradients.at("blocks.1.mlp.down.weight").norm().item<double>(), 0);
  context.backward_scale = 1U << 24U;
  EXPECT_GT(result_of(context).gradients.at("blocks.1.mlp.down.weight").norm().item<double>(), 0);
  context.backward_scale = 1e18;
  EXPECT_FALSE(
      result_of(context).gradients.at("blocks.1.mlp.down.weight").isfinite().all().item<bool>());
}

class RecomputedAttention : public testing::TestWithParam<torch::ScalarType> {};

INSTANTIATE_TEST_SUITE_P(Types,
                         RecomputedAttention,
                         testing::Values(torch::kFloat32, torch::kBFloat16),
                         [](const auto& of) { return std::string(toString(of.param)); });

TEST_P(RecomputedAttention, IsTheSameToTheBitWithDropout) {
  const Context context = context_of(GetParam());
  const Result kept = result_of(context);
  const Result again = result_of(context, {.recompute_attention = true});
  EXPECT_EQ(again.loss, kept.loss);
  for (const auto& [name, gradient] : again.gradients)
    EXPECT_TRUE(torch::equal(gradient, kept.gradients.at(name))) << name;
}

TEST(CastOf, IsMadeOnceAVersion) {
  Cast cast;
  const Tensor matrix = torch::randn({3, 4});
  EXPECT_TRUE(cast.of(matrix, torch::kFloat32, 1).is_same(matrix));
  const Tensor first = cast.of(matrix, torch::kBFloat16, 1);
  EXPECT_EQ(first.scalar_type(), torch::kBFloat16);
  matrix.add_(1);
  EXPECT_TRUE(cast.of(matrix, torch::kBFloat16, 1).is_same(first));
  EXPECT_TRUE(torch::equal(cast.of(matrix, torch::kBFloat16, 2), matrix.to(torch::kBFloat16)));
  matrix.add_(1);
  EXPECT_TRUE(torch::equal(cast.of(matrix, torch::kBFloat16, -1), matrix.to(torch::kBFloat16)));
}

TEST(AutocastScope, IsLeftAsItWas) {
  const Tensor a = torch::randn({4, 4});
  {
    const Autocast autocast(torch::kCPU, torch::kBFloat16);
    EXPECT_EQ(torch::mm(a, a).scalar_type(), torch::kBFloat16);
    const NoAutocast none;
    EXPECT_EQ(torch::mm(a, a).scalar_type(), torch::kFloat32);
  }
  EXPECT_EQ(torch::mm(a, a).scalar_type(), torch::kFloat32);
}

}  // namespace
}  // namespace headrace
