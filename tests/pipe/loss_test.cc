// What a loss is divided by: a mean over rows, or a sum over what counts in the whole batch.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/pipe.h"
#include "tests/pipe/plain.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;
using torch::Tensor;
namespace F = torch::nn::functional;

constexpr std::int64_t kIgnored = -100;  // of cross_entropy, unless told

Tensor mean_loss(const Tensor& output, const Tensor& target) {
  return F::cross_entropy(output, target);
}

Tensor sum_loss(const Tensor& output, const Tensor& target) {
  return F::cross_entropy(output, target, F::CrossEntropyFuncOptions().reduction(torch::kSum));
}

torch::nn::Sequential classifier() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(8, 8), torch::nn::Tanh(), torch::nn::Linear(8, 5));
}

Batch labelled(std::int64_t rows, const std::vector<std::int64_t>& ignored) {
  torch::manual_seed(4);
  Batch batch{torch::randn({rows, 8}), torch::randint(0, 5, {rows})};
  for (const std::int64_t row : ignored) batch.target[row] = kIgnored;
  return batch;
}

double counted(const Batch& batch) {
  return batch.target.ne(kIgnored).sum().item<double>();
}

// Rows 2 and 3 are a microbatch of their own where there are 4 of 8 rows.
TEST(PipeLoss, ASumDividedByTheBatchsCountIsOneProcessOverTheWholeBatch) {
  torch::set_num_threads(1);
  for (const std::string schedule : {"gpipe", "1f1b", "zb-h1"}) {
    for (const std::int64_t rows : {8, 9}) {
      for (const std::vector<int>& recompute : {std::vector<int>{}, {-1}}) {
        const Batch batch = labelled(rows, {2, 3, 7});
        torch::nn::Sequential whole = classifier(), plain = classifier();
        const Tensor expected = mean_loss(whole->forward(batch.input), batch.target);
        expected.backward();
        Pipe pipe(classifier(), {.balance = {2, 1},
                                 .microbatches = 4,
                                 .schedule = schedule,
                                 .recompute = recompute,
                                 .threads = 1});
        const double loss = pipe.step(batch.input, batch.target, sum_loss, counted(batch));
        EXPECT_NEAR(loss, expected.item<double>(), 1e-6);
        expect_near_gradients(pipe.parameters(), whole->parameters());
        EXPECT_EQ(loss, plain_step(plain, batch, 4, sum_loss, counted(batch)));
        expect_same_gradients(pipe.parameters(), plain->parameters());
      }
    }
  }
}

TEST(PipeLoss, ADivisorThatDividesNothingIsRefused) {
  Pipe pipe(classifier(), {.balance = {2, 1}, .microbatches = 4});
  const Batch batch = labelled(8, {0, 1, 2, 3, 4, 5, 6, 7});
  for (const double divisor : {counted(batch), -1.0, std::nan(""), HUGE_VAL})
    EXPECT_THAT([&] { pipe.step(batch.input, batch.target, sum_loss, divisor); },
                ThrowsMessage<UsageError>(HasSubstr("divisor")));
}

TEST(PipeLoss, AMeanWhereNothingCountsIsRefusedByItsMicrobatch) {
  Pipe pipe(classifier(), {.balance = {2, 1}, .microbatches = 4});
  // A mean over the rows of class 1, which microbatch 2 has none of.
  const auto of_class_1 = [](const Tensor& output, const Tensor& target) {
    return output.index({target.eq(1)}).pow(2).mean();
  };
  Batch batch = labelled(8, {});
  batch.target.fill_(1).slice(0, 4, 6).fill_(0);
  EXPECT_THAT([&] { pipe.step(batch.input, batch.target, of_class_1); },
              ThrowsMessage<Error>(AllOf(HasSubstr("microbatch 2"), HasSubstr("divisor"))));
}

// Each microbatch's mean would be weighted by its rows, and there it is over what is left of them.
TEST(PipeLoss, AMeanOverUnevenlyIgnoredLabelsIsRefused) {
  Pipe pipe(classifier(), {.balance = {2, 1}, .microbatches = 4});
  const auto refuse = [&](const std::vector<std::int64_t>& ignored, const std::string& which) {
    const Batch batch = labelled(8, ignored);
    EXPECT_THAT([&] { pipe.step(batch.input, batch.target, mean_loss); },
                ThrowsMessage<UsageError>(AllOf(HasSubstr(which), HasSubstr("divisor"))));
    for (const Tensor& parameter : pipe.parameters()) EXPECT_FALSE(parameter.grad().defined());
  };
  refuse({2, 3, 7}, "2 of microbatch 1's 2");
  refuse({7}, "1 of microbatch 3's 2");
  refuse({2, 3}, "2 of microbatch 1's 2");
}

TEST(PipeLoss, AMeanOverEvenlyIgnoredLabelsIsThatOfTheWholeBatch) {
  torch::set_num_threads(1);
  const Batch batch = labelled(8, {1, 2, 4, 7});
  torch::nn::Sequential whole = classifier();
  mean_loss(whole->forward(batch.input), batch.target).backward();
  Pipe pipe(classifier(), {.balance = {2, 1}, .microbatches = 4, .threads = 1});
  pipe.step(batch.input, batch.target, mean_loss);
  expect_near_gradients(pipe.parameters(), whole->parameters());
}

// Not for the loss to say: the caller sees it as in any training loop.
TEST(PipeLoss, ThatOfAModelThatDivergedIsNotANumber) {
  torch::nn::Sequential model = classifier();
  {
    const torch::NoGradGuard no_grad;
    model->parameters()[0].fill_(std::numeric_limits<float>::quiet_NaN());
  }
  Pipe pipe(model, {.balance = {2, 1}, .microbatches = 4});
  const Batch batch = labelled(8, {});
  EXPECT_TRUE(std::isnan(pipe.step(batch.input, batch.target, mean_loss)));
}

}  // namespace
}  // namespace headrace
