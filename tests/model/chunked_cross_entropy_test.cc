#include "headrace/model/chunked_cross_entropy.h"

#include <cstdint>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/model/operations.h"
#include "headrace/plan/logits.h"
#include "headrace/tensor/memory.h"

namespace headrace {
namespace {

constexpr std::int64_t kTokens = 22, kWidth = 8, kVocabulary = 50;
constexpr double kScale = 0.125;

struct Problem {
  torch::Tensor x, weight, targets;
};

// Some targets are ignored, and all of the second chunk of five.
Problem problem(torch::ScalarType type = torch::kFloat32) {
  torch::manual_seed(1);
  Problem p{torch::randn({2, kTokens / 2, kWidth}, type), torch::randn({kVocabulary, kWidth}, type),
            torch::randint(kVocabulary, {2, kTokens / 2})};
  p.targets.view(-1).slice(0, 5, 10).fill_(-100);
  p.targets.view(-1)[0] = -100;
  p.x.requires_grad_();
  p.weight.requires_grad_();
  return p;
}

TEST(ChunkedCrossEntropy, IsThatOfAutograd) {
  const Problem p = problem(torch::kFloat64), q = problem(torch::kFloat64);
  const torch::Tensor loss =
      chunked_cross_entropy(p.x, p.weight, p.weight.detach(), p.targets, kScale, {}, 5)[0];
  loss.backward();
  const torch::Tensor plain =
      kScale *
      torch::cross_entropy_loss(torch::matmul(q.x, q.weight.t()).view({kTokens, kVocabulary}),
                                q.targets.view(-1), {}, at::Reduction::Sum, -100);
  plain.backward();
  EXPECT_TRUE(torch::allclose(loss, plain, 1e-12, 1e-12));
  EXPECT_TRUE(torch::allclose(p.x.grad(), q.x.grad(), 1e-12, 1e-12));
  EXPECT_TRUE(torch::allclose(p.weight.grad(), q.weight.grad(), 1e-12, 1e-12));
}

TEST(ChunkedCrossEntropy, CountsAndLosesAsTheWholeOne) {
  for (const torch::ScalarType products : {torch::kFloat32, torch::kBFloat16}) {
    const Problem p = problem(), q = problem();
    const Tensors chunked = chunked_cross_entropy(p.x, p.weight, p.weight.detach().to(products),
                                                  p.targets, kScale, metrics(), 7);
    const Tensors whole = linear_cross_entropy(q.x, q.weight, q.weight.detach().to(products),
                                               q.targets, kScale, metrics(), nullptr);
    ASSERT_EQ(chunked.size(), whole.size());
    EXPECT_NEAR(chunked[0].item<double>(), whole[0].item<double>(), 1e-5);
    for (std::size_t i = 1; i < whole.size(); ++i) EXPECT_TRUE(torch::equal(chunked[i], whole[i]));
    chunked[0].backward();
    whole[0].backward();
    const double tolerance = products == torch::kFloat32 ? 1e-5 : 2e-2;
    EXPECT_TRUE(torch::allclose(p.x.grad(), q.x.grad(), tolerance, tolerance));
    EXPECT_TRUE(torch::allclose(p.weight.grad(), q.weight.grad(), tolerance, tolerance));
  }
}

TEST(ChunkedCrossEntropy, NeverHoldsAllLogits) {
  install_memory_accounts();
  constexpr std::int64_t kMany = 4096, kWords = 8192, kAtOnce = 256;
  const torch::Tensor x = torch::randn({1, kMany, kWidth}).requires_grad_();
  const torch::Tensor weight = torch::randn({kWords, kWidth}).requires_grad_();
  const torch::Tensor targets = torch::randint(kWords, {1, kMany});
  MemoryAccount account;
  const MemoryScope scope(account);
  chunked_cross_entropy(x, weight, weight.detach(), targets, 1, {}, kAtOnce)[0].backward();
  const std::int64_t chunk = kAtOnce * kWords * 4;
  EXPECT_LT(account.peak(), 3 * chunk);
  EXPECT_GT(account.peak(), chunk);
}

TEST(LogitRows, AreWholeWhereTheyTakeLittleAndOfOneSizeElse) {
  EXPECT_EQ(logit_rows_at_once(8192, 8192), 8192);
  EXPECT_EQ(logit_rows_at_once(8193, 8192), 2731);  // three of 128 MiB at most
  const std::int64_t rows = logit_rows_at_once(8192, 128256);
  EXPECT_LE(rows * 128256 * 4, std::int64_t{128} << 20);
  EXPECT_GT(2 * rows * 128256 * 4, std::int64_t{128} << 20);
  EXPECT_EQ(logit_rows_at_once(2, std::int64_t{1} << 40), 1);
  EXPECT_EQ(logit_rows_at_once(1, std::int64_t{1} << 40), 1);
}

}  // namespace
}  // namespace headrace
