// A module that stands more than once in a model.
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

torch::nn::Sequential with_one_twice() {
  torch::manual_seed(3);
  torch::nn::Linear shared(8, 8);
  torch::nn::BatchNorm1d norm(8);
  return torch::nn::Sequential(torch::nn::Linear(8, 8), shared, norm, torch::nn::Tanh(), shared,
                               norm, torch::nn::Linear(8, 8));
}

Tensor loss_of(const Tensor& output, const Tensor& target) {
  return torch::mse_loss(output, target);
}

std::vector<Tensor> each_once(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> once;
  for (const Tensor& tensor : tensors)
    if (std::ranges::none_of(once, [&](const Tensor& other) { return other.is_same(tensor); }))
      once.push_back(tensor);
  return once;
}

TEST(PipeShared, AModuleThatStandsTwiceIsTrainedAsInThePlainModel) {
  torch::set_num_threads(1);
  torch::manual_seed(4);
  const Batch batch{torch::randn({8, 8}), torch::randn({8, 8})};
  for (const std::string schedule : {"gpipe", "1f1b", "zb-h1"}) {
    for (const std::vector<int>& recompute : {std::vector<int>{}, {-1}}) {
      SCOPED_TRACE(schedule);
      torch::nn::Sequential plain = with_one_twice(), piped = with_one_twice();
      Pipe pipe(piped, {.balance = {1, 5, 1},
                        .microbatches = 2,
                        .schedule = schedule,
                        .recompute = recompute,
                        .threads = 1});
      const std::vector<Tensor> expected = each_once(plain->parameters());
      ASSERT_EQ(pipe.parameters().size(), expected.size());
      ASSERT_EQ(expected.size(), 8U);
      torch::optim::SGD ours(pipe.parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
      torch::optim::SGD theirs(expected, torch::optim::SGDOptions(0.1).momentum(0.9));
      for (int i = 0; i < 3; ++i) {
        ours.zero_grad();
        theirs.zero_grad();
        EXPECT_EQ(pipe.step(batch.input, batch.target, loss_of),
                  plain_step(plain, batch, 2, loss_of));
        expect_same_gradients(pipe.parameters(), expected);
        ours.step();
        theirs.step();
      }
      for (std::size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(torch::equal(pipe.parameters()[i], expected[i])) << i;
      for (std::size_t i = 0; i < plain->buffers().size(); ++i)
        EXPECT_TRUE(torch::equal(piped->buffers()[i], plain->buffers()[i])) << i;
    }
  }
}

// Two threads would change it at once.
TEST(PipeShared, OverTwoStagesIsRefused) {
  EXPECT_THAT([] { Pipe(with_one_twice(), {.balance = {2, 5}}); },
              ThrowsMessage<UsageError>(AllOf(HasSubstr("module 4 of stage 1"),
                                              HasSubstr("shares parameter weight with module 1"))));
  torch::nn::BatchNorm1d counts(torch::nn::BatchNormOptions(8).affine(false));
  EXPECT_THAT([&] { Pipe(torch::nn::Sequential(counts, counts), {.balance = {1, 1}}); },
              ThrowsMessage<UsageError>(AllOf(HasSubstr("module 1 of stage 1"),
                                              HasSubstr("shares buffer running_mean"))));
}

}  // namespace
}  // namespace headrace
