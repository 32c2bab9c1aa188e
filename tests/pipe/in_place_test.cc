// Modules that write into what they are given: in any cut, as without one.
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/pipe.h"
#include "tests/pipe/plain.h"

namespace headrace {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;
using torch::Tensor;

torch::nn::ReLU in_place_relu() {
  return torch::nn::ReLU(torch::nn::ReLUOptions(true));
}

torch::nn::Sequential relus() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(8, 8), in_place_relu(), torch::nn::Linear(8, 8),
                               in_place_relu(), torch::nn::Linear(8, 8));
}

torch::nn::Sequential relu_first() {
  torch::manual_seed(3);
  return torch::nn::Sequential(in_place_relu(), torch::nn::Linear(8, 8), in_place_relu(),
                               torch::nn::Linear(8, 8));
}

Batch batch_of(int rows) {
  torch::manual_seed(4);
  return {torch::randn({rows, 8}), torch::randn({rows, 8})};
}

Tensor loss_of(const Tensor& output, const Tensor& target) {
  return torch::mse_loss(output, target);
}

// All ways to cut `modules` into two stages or more.
std::vector<std::vector<int>> cuts_of(int modules) {
  std::vector<std::vector<int>> all;
  for (int cuts = 1; cuts < 1 << (modules - 1); ++cuts) {
    std::vector<int> balance = {1};
    for (int i = 0; i + 1 < modules; ++i) {
      if ((cuts >> i & 1) != 0)
        balance.push_back(1);
      else
        ++balance.back();
    }
    all.push_back(balance);
  }
  return all;
}

class PipeInPlace : public testing::TestWithParam<std::tuple<std::string, bool>> {};

TEST_P(PipeInPlace, EveryCutIsThePlainModel) {
  torch::set_num_threads(1);
  const auto& [schedule, recompute] = GetParam();
  using Model = torch::nn::Sequential (*)();
  for (const auto& [make, modules] : {std::pair<Model, int>{relus, 5}, {relu_first, 4}}) {
    for (const std::vector<int>& balance : cuts_of(modules)) {
      SCOPED_TRACE(testing::PrintToString(balance));
      torch::nn::Sequential plain = make(), whole = make();
      Pipe pipe(make(), {.balance = balance,
                         .microbatches = 3,
                         .schedule = schedule,
                         .recompute = recompute ? std::vector<int>{-1} : std::vector<int>{},
                         .threads = 1});
      const Batch batch = batch_of(7);
      EXPECT_EQ(pipe.step(batch.input.clone(), batch.target, loss_of),
                plain_step(plain, batch, 3, loss_of));
      expect_same_gradients(pipe.parameters(), plain->parameters());

      for (Tensor& parameter : pipe.parameters()) parameter.mutable_grad() = Tensor();
      const Tensor ours = batch.input.clone().requires_grad_(),
                   theirs = batch.input.clone().requires_grad_();
      loss_of(pipe.forward(ours * 2), batch.target).backward();
      loss_of(whole->forward(theirs * 2), batch.target).backward();
      expect_near_gradients(pipe.parameters(), whole->parameters());
      expect_near_gradients({ours}, {theirs});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         PipeInPlace,
                         testing::Combine(testing::Values("gpipe", "1f1b", "zb-h1"),
                                          testing::Bool()));

// What wants no gradient is the model's to write to, as without a pipe, and autograd is told.
TEST(PipeInPlace, ThePlainModelsTracesInTheCallersTensor) {
  const Batch batch = batch_of(6);
  torch::nn::Sequential plain = relu_first();
  const Tensor theirs = batch.input.clone(), ours = batch.input.clone();
  plain->forward(theirs);
  Pipe pipe(relu_first(), {.balance = {1, 3}, .microbatches = 3});
  const Tensor weight = torch::ones({8}).requires_grad_();
  const Tensor beside = (ours * weight).sum();
  pipe.step(ours, batch.target, loss_of);
  EXPECT_TRUE(torch::equal(ours, theirs));
  EXPECT_THAT([&] { beside.backward(); }, ThrowsMessage<c10::Error>(HasSubstr("inplace")));
}

// What wants one is the caller's: other uses of it see the values that their gradients belong to.
TEST(PipeInPlace, AnInputThatWantsAGradientStaysAsItIs) {
  const Batch batch = batch_of(6);
  Pipe pipe(relu_first(), {.balance = {1, 3}, .microbatches = 3});
  const Tensor leaf = batch.input.clone().requires_grad_();
  const Tensor input = leaf * 1;
  loss_of(pipe.forward(input), batch.target).backward();
  EXPECT_TRUE(torch::equal(input, batch.input));
  EXPECT_TRUE(leaf.grad().defined());
}

// Torch lets nothing write into them, and no graph hold them.
TEST(PipeInPlace, TensorsOfInferenceModeArePassed) {
  torch::set_num_threads(1);
  Tensor input;
  {
    const torch::InferenceMode in_inference;
    input = batch_of(6).input;
  }
  Pipe pipe(relus(), {.balance = {2, 3}, .microbatches = 3, .threads = 1});
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::allclose(pipe.forward(input), relus()->forward(input)));
}

// Writes into the mask that it is given.
struct Spoiler : torch::nn::Module {
  Tensor forward(const Tensor& x, const Tensor& mask) {  // NOLINT
    return x * mask.add_(1);
  }
};

TEST(PipeInPlace, WritingIntoWhatAllMicrobatchesShareIsRefused) {
  torch::manual_seed(3);
  Pipe pipe(torch::nn::Sequential(torch::nn::Linear(8, 8), Spoiler()),
            {.balance = {1, 1}, .microbatches = 3, .whole_inputs = {1}});
  const Batch batch = batch_of(6);
  EXPECT_THAT([&] { pipe.step({batch.input, torch::ones({1, 8})}, batch.target, loss_of); },
              ThrowsMessage<Error>(HasSubstr("wrote into input 1")));
}

}  // namespace
}  // namespace headrace
