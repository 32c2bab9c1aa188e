// What is recomputed is what was computed, and leaves no trace: draws, state, inputs.
#include <functional>
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

Tensor loss_of(const Tensor& output, const Tensor& target) {
  return torch::mse_loss(output, target);
}

Batch batch_of(int rows) {
  torch::manual_seed(4);
  return {torch::randn({rows, 16}), torch::randn({rows, 16})};
}

// Draws in many ways, from the default generator by its name or without.
struct Noisy : torch::nn::Module {
  Tensor forward(const Tensor& x) {  // NOLINT
    const std::int64_t width = x.size(1);
    const at::Generator& named = at::detail::getDefaultCPUGenerator();
    const Tensor half = torch::full({width}, 0.5);
    const Tensor drawn = torch::rand({width}) + torch::randn_like(x) +
                         torch::randint(0, 9, {width}).to(x.dtype()) +
                         torch::bernoulli(half, named) + torch::normal(0, 1, {width}, named) +
                         torch::multinomial(half, width, false, named).to(x.dtype()) +
                         torch::empty({width}).exponential_(1, named);
    return torch::rrelu(x.index_select(1, torch::randperm(width)), 0.1, 0.9, true, named) * drawn;
  }
};

// The first Dropout works in place.
torch::nn::Sequential drawing() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(16, 16),
                               torch::nn::Dropout(torch::nn::DropoutOptions(0.5).inplace(true)),
                               torch::nn::Linear(16, 16), Noisy(), torch::nn::Linear(16, 16),
                               torch::nn::AlphaDropout(0.3), torch::nn::Linear(16, 16));
}

struct Outcome {
  double loss;
  std::vector<Tensor> gradients;
};

Outcome run(torch::nn::Sequential model,
            PipeOptions options,
            const Batch& batch,
            bool by_step = true) {
  options.threads = 1;
  Pipe pipe(model, options);
  torch::manual_seed(5);
  Outcome outcome;
  if (by_step) {
    outcome.loss = pipe.step(batch.input.clone(), batch.target, loss_of);
  } else {
    const Tensor loss = loss_of(pipe.forward(batch.input.clone()), batch.target);
    loss.backward();
    outcome.loss = loss.item<double>();
  }
  for (const Tensor& parameter : pipe.parameters()) outcome.gradients.push_back(parameter.grad());
  return outcome;
}

void expect_same(const Outcome& actual, const Outcome& expected) {
  EXPECT_EQ(actual.loss, expected.loss);
  ASSERT_EQ(actual.gradients.size(), expected.gradients.size());
  for (std::size_t i = 0; i < actual.gradients.size(); ++i) {
    ASSERT_EQ(actual.gradients[i].defined(), expected.gradients[i].defined()) << i;
    EXPECT_TRUE(!expected.gradients[i].defined() ||
                torch::equal(actual.gradients[i], expected.gradients[i]))
        << i;
  }
}

// For the draw is y = x · w, the loss Σ y · drawn: the gradient tells the mask.
TEST(PipeRecompute, TheBackwardsMaskIsTheForwards) {
  torch::manual_seed(3);
  torch::nn::Sequential model(torch::nn::Linear(16, 16), torch::nn::Dropout(0.5));
  Pipe pipe(model, {.balance = {2}, .recompute = {-1}});
  const auto sum = [](const Tensor& output, const Tensor&) { return output.sum(); };
  const Tensor input = torch::randn({1, 16});
  const double loss = pipe.step(input, torch::zeros({1}), sum);
  // Σ gᵢ (w x + b)ᵢ, where g is the bias's gradient: the loss that the gradient is of.
  const torch::NoGradGuard no_grad;
  const Tensor weight = pipe.parameters()[0], bias = pipe.parameters()[1];
  EXPECT_NEAR((torch::linear(input, weight, bias) * bias.grad()).sum().item<double>(), loss, 1e-5);
}

class PipeDraws : public testing::TestWithParam<std::tuple<std::string, bool, bool>> {};

// Nor do they depend on the cut, the schedule or the way it is called.
TEST_P(PipeDraws, AreTheSameWhereverAndWhenever) {
  torch::set_num_threads(1);
  const auto& [schedule, recompute, by_step] = GetParam();
  const Batch batch = batch_of(10);
  const PipeOptions one = {.balance = {7}, .microbatches = 5, .schedule = "gpipe"};
  const Outcome expected = run(drawing(), one, batch, by_step);
  const bool two = schedule == "zb-v";  // stages a rank
  for (const std::vector<int>& balance : {std::vector<int>{3, 4}, {1, 6}, {2, 1, 2, 2}}) {
    if (two && balance.size() % 2 != 0) continue;
    for (int again = 0; again < 3; ++again)
      expect_same(run(drawing(),
                      {.balance = balance,
                       .microbatches = 5,
                       .schedule = schedule,
                       .recompute = recompute ? std::vector<int>{-1} : std::vector<int>{}},
                      batch, by_step),
                  expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Grid,
                         PipeDraws,
                         testing::Combine(testing::Values("gpipe", "1f1b", "zb-h1", "zb-v"),
                                          testing::Bool(),
                                          testing::Bool()));

TEST(PipeDraws, DifferByMicrobatchModuleAndStep) {
  torch::nn::Dropout shared(0.5);
  Pipe pipe(torch::nn::Sequential(shared, torch::nn::Dropout(0.5)),
            {.balance = {1, 1}, .microbatches = 2});
  const torch::NoGradGuard no_grad;
  const Tensor ones = torch::ones({2, 4096});
  const Tensor first = pipe.forward(ones), second = pipe.forward(ones);
  EXPECT_FALSE(torch::equal(first, second));
  EXPECT_FALSE(torch::equal(first[0], first[1]));
  // Were the modules' masks the same, half of all would be left instead of a quarter.
  EXPECT_NEAR(first.ne(0).to(torch::kFloat64).mean().item<double>(), 0.25, 0.05);
}

// As in any program: a seed gives the run again, and what draws nothing leaves the generator alone.
TEST(PipeDraws, MoveTheDefaultGeneratorByTheSeedAlone) {
  const Batch batch = batch_of(4);
  const auto next_after = [&](double dropout, bool training) {
    torch::nn::Sequential model(torch::nn::Linear(16, 16), torch::nn::Dropout(dropout));
    if (!training) model->eval();
    Pipe pipe(model, {.balance = {1, 1}, .microbatches = 2, .recompute = {-1}});
    torch::manual_seed(5);
    pipe.step(batch.input, batch.target, loss_of);
    return torch::rand({4});
  };
  torch::manual_seed(5);
  const Tensor untouched = torch::rand({4});
  EXPECT_TRUE(torch::equal(next_after(0.5, false), untouched));
  EXPECT_TRUE(torch::equal(next_after(0, true), untouched));
  EXPECT_FALSE(torch::equal(next_after(0.5, true), untouched));
  EXPECT_TRUE(torch::equal(next_after(0.5, true), next_after(0.5, true)));
}

// A loss may draw too.
TEST(PipeDraws, OfTheLossAreTheSameAgain) {
  const Batch batch = batch_of(4);
  const auto step = [&](const std::vector<int>& recompute) {
    torch::manual_seed(3);
    Pipe pipe(torch::nn::Sequential(torch::nn::Linear(16, 16), torch::nn::Linear(16, 16)),
              {.balance = {1, 1}, .microbatches = 2, .recompute = recompute, .threads = 1});
    torch::manual_seed(5);
    const double loss = pipe.step(batch.input, batch.target, [](const Tensor& y, const Tensor& t) {
      return torch::mse_loss(torch::dropout(y, 0.5, true), t);
    });
    return Outcome{loss, {pipe.parameters()[0].grad(), pipe.parameters()[3].grad()}};
  };
  expect_same(step({-1}), step({}));
}

// Counts its forwards, and what it gives depends on the count.
struct Counting : torch::nn::Module {
  Counting()
      : count(register_buffer("count", torch::zeros({}))),
        average(register_buffer("average", torch::zeros({16}))) {}
  Tensor forward(const Tensor& x) {
    {
      const torch::NoGradGuard no_grad;
      count.add_(1);
      average.mul_(0.5).add_(x.mean(0), 0.5);
    }
    return (x - average) / (count + 1);
  }
  Tensor count, average;
};

torch::nn::Sequential counting() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(16, 16), torch::nn::BatchNorm1d(16), Counting(),
                               torch::nn::Linear(16, 16), Counting(),
                               torch::nn::BatchNorm1d(torch::nn::BatchNormOptions(16).momentum(
                                   std::nullopt)),  // averages over its count
                               torch::nn::Linear(16, 16));
}

class PipeState : public testing::TestWithParam<std::tuple<std::string, bool>> {};

TEST_P(PipeState, IsThatOfOneForwardAMicrobatch) {
  torch::set_num_threads(1);
  const auto& [schedule, by_step] = GetParam();
  const Batch batch = batch_of(12);
  torch::nn::Sequential plain = counting(), piped = counting();
  Pipe pipe(piped, {.balance = {4, 3},
                    .microbatches = 4,
                    .schedule = schedule,
                    .recompute = {-1},
                    .threads = 1});
  torch::optim::SGD ours(pipe.parameters(), 0.1), theirs(plain->parameters(), 0.1);
  for (int i = 0; i < 2; ++i) {
    ours.zero_grad();
    theirs.zero_grad();
    const double expected = plain_step(plain, batch, 4, loss_of);
    if (by_step) {
      EXPECT_EQ(pipe.step(batch.input, batch.target, loss_of), expected);
      expect_same_gradients(pipe.parameters(), plain->parameters());
    } else {
      const Tensor loss = loss_of(pipe.forward(batch.input), batch.target);
      loss.backward();
      EXPECT_NEAR(loss.item<double>(), expected, 1e-5);
      expect_near_gradients(pipe.parameters(), plain->parameters());
    }
    ours.step();
    theirs.step();
    if (!by_step) continue;
    for (std::size_t b = 0; b < plain->buffers().size(); ++b)
      EXPECT_TRUE(torch::equal(piped->buffers()[b], plain->buffers()[b])) << "buffer " << b;
  }
  for (std::size_t b = 0; b < plain->buffers().size(); ++b)
    EXPECT_TRUE(torch::allclose(piped->buffers()[b], plain->buffers()[b])) << "buffer " << b;
}

INSTANTIATE_TEST_SUITE_P(
    Grid, PipeState, testing::Combine(testing::Values("gpipe", "1f1b", "zb-h1"), testing::Bool()));

// Asks of its inputs what may differ between a forward and its recomputation.
struct Asking : torch::nn::Module {
  Asking() : weight(register_parameter("weight", torch::ones({16}))) {}
  Tensor forward(const Tensor& x, const Tensor& mask) {
    const double factor = (x.requires_grad() ? 2 : 3) * (mask.requires_grad() ? 5 : 7) *
                          (torch::GradMode::is_enabled() ? 1 : 0.5);
    return x * mask * factor * weight;
  }
  Tensor weight;
};

TEST(PipeRecompute, InputsWantAGradientWhereTheyDidBefore) {
  torch::set_num_threads(1);
  const Batch batch = batch_of(6);
  const auto step = [&](const std::vector<int>& recompute, bool frozen) {
    torch::manual_seed(3);
    torch::nn::Sequential model(Asking(), torch::nn::Linear(16, 16), Asking(), Asking());
    if (frozen)
      for (const std::size_t i : {0, 1})
        for (Tensor& parameter : model->ptr(i)->parameters()) parameter.requires_grad_(false);
    Pipe pipe(model,
              {.balance = {1, 1, 2}, .microbatches = 3, .recompute = recompute, .threads = 1});
    Outcome outcome;
    outcome.loss = pipe.step({batch.input, torch::ones({6, 16})}, batch.target, loss_of);
    for (const Tensor& parameter : pipe.parameters()) outcome.gradients.push_back(parameter.grad());
    return outcome;
  };
  for (const bool frozen : {false, true}) {
    const Outcome expected = step({}, frozen);
    for (const std::vector<int>& recompute : {std::vector<int>{-1}, {0}, {1}, {2}, {0, 1}})
      expect_same(step(recompute, frozen), expected);
  }
}

// Writes into its input, and the gradient of its weight depends on what was there.
struct Squares : torch::nn::Module {
  Squares() : weight(register_parameter("weight", torch::ones({16}))) {}
  Tensor forward(Tensor x) { return x.add_(x.clone().pow(2) * weight); }
  Tensor weight;
};

TEST(PipeRecompute, WhatTheNextStageWritesIsNotSeen) {
  torch::set_num_threads(1);
  const Batch batch = batch_of(6);
  const auto model = [] {
    torch::manual_seed(3);
    return torch::nn::Sequential(torch::nn::Linear(16, 16), Squares(), torch::nn::Identity(),
                                 torch::nn::ReLU(torch::nn::ReLUOptions(true)),
                                 torch::nn::Linear(16, 16));
  };
  torch::nn::Sequential plain = model();
  const double expected = plain_step(plain, batch, 3, loss_of);
  for (const std::vector<int>& balance :
       {std::vector<int>{1, 1, 1, 2}, {1, 1, 3}, {1, 2, 2}, {1, 2, 1, 1}, {2, 1, 2}}) {
    SCOPED_TRACE(testing::PrintToString(balance));
    Pipe pipe(model(), {.balance = balance, .microbatches = 3, .recompute = {-1}, .threads = 1});
    EXPECT_EQ(pipe.step(batch.input, batch.target, loss_of), expected);
    expect_same_gradients(pipe.parameters(), plain->parameters());
  }
}

// What cannot be computed again as it was is refused.
TEST(PipeRecompute, AModelChangedBeforeTheBackwardIsRefused) {
  const Batch batch = batch_of(4);
  const auto backward_after = [&](const std::function<void(torch::nn::Sequential&)>& change) {
    torch::nn::Sequential model(torch::nn::Linear(16, 16), torch::nn::Dropout(0.5),
                                torch::nn::Linear(16, 16));
    Pipe pipe(model, {.balance = {2, 1}, .microbatches = 2, .recompute = {0}});
    const Tensor loss = loss_of(pipe.forward(batch.input), batch.target);
    change(model);
    loss.backward();
  };
  EXPECT_NO_THROW(backward_after([](torch::nn::Sequential&) {}));
  EXPECT_THAT([&] { backward_after([](torch::nn::Sequential& model) { model->eval(); }); },
              ThrowsMessage<std::exception>(HasSubstr("train() or eval()")));
  EXPECT_THAT(
      [&] {
        backward_after([](torch::nn::Sequential& model) {
          const torch::NoGradGuard no_grad;
          model->parameters()[0].mul_(2);
        });
      },
      ThrowsMessage<std::exception>(HasSubstr("changed between its forward and its backward")));
}

}  // namespace
}  // namespace headrace
