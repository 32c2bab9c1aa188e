// A user's own model on several devices, and on one: Pipe moves its modules and what passes between them.
#include "headrace/pipe.h"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "headrace/base/error.h"
#include "headrace/tensor/streams.h"
#include "tests/device/test_device.h"

namespace headrace {
namespace {

constexpr std::int64_t kRows = 8, kWidth = 6, kClasses = 5;
constexpr int kSteps = 3;

// libtorch moves no parameter from the CPU to a device of others: it is made there.
struct LinearImpl : torch::nn::Module {
  LinearImpl(std::int64_t in, std::int64_t out)
      : weight(register_parameter("weight", torch::randn({out, in}).to(test_device()))),
        bias(register_parameter("bias", torch::randn({out}).to(test_device()))) {}
  torch::Tensor forward(const torch::Tensor& x) { return torch::addmm(bias, x, weight.t()); }
  torch::Tensor weight, bias;
};
TORCH_MODULE(Linear);

torch::nn::Sequential model() {
  torch::manual_seed(3);
  return torch::nn::Sequential(Linear(kWidth, kWidth), torch::nn::Tanh(), Linear(kWidth, kWidth),
                               torch::nn::ReLU(), Linear(kWidth, kClasses));
}

torch::Tensor loss(const torch::Tensor& output, const torch::Tensor& target) {
  return (output - target).square().mean();
}

struct Outcome {
  std::vector<double> losses;
  std::vector<torch::Tensor> weights;
  torch::Tensor output, input_gradient;
  std::int64_t waits = 0;  // in all steps
};

Outcome run(const PipeOptions& options) {
  torch::nn::Sequential plain = model();
  Pipe pipe(plain, options);
  torch::optim::SGD optimizer(pipe.parameters(), 0.1);
  torch::manual_seed(5);
  Outcome outcome;
  for (int i = 0; i < kSteps; ++i) {
    const torch::Tensor input = torch::randn({kRows, kWidth});
    const torch::Tensor target = torch::randn({kRows, kClasses});
    optimizer.zero_grad();
    const std::int64_t before = host_waits();
    outcome.losses.push_back(pipe.step(input, target, loss));
    outcome.waits += host_waits() - before;
    optimizer.step();
  }
  const torch::Tensor input = torch::randn({kRows, kWidth}).requires_grad_();
  const torch::Tensor output = pipe.forward(input);
  output.sum().backward();
  outcome.output = output.detach().cpu();
  outcome.input_gradient = input.grad();
  for (const torch::Tensor& weight : pipe.parameters())
    outcome.weights.push_back(weight.detach().cpu());
  EXPECT_EQ(pipe.timeline().ranks.size(), static_cast<std::size_t>(pipe.ranks()));
  for (const std::vector<Event>& rank : pipe.timeline().ranks) {
    EXPECT_FALSE(rank.empty());
    for (const Event& event : rank) EXPECT_GE(event.end, event.start);
  }
  return outcome;
}

void expect_equal(const Outcome& actual, const Outcome& expected) {
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_TRUE(torch::equal(actual.output, expected.output));
  EXPECT_TRUE(torch::equal(actual.input_gradient, expected.input_gradient));
  ASSERT_EQ(actual.weights.size(), expected.weights.size());
  for (std::size_t i = 0; i < actual.weights.size(); ++i)
    EXPECT_TRUE(torch::equal(actual.weights[i], expected.weights[i])) << i;
}

PipeOptions on(std::vector<torch::Device> devices, const std::string& schedule = "1f1b") {
  PipeOptions options;
  options.microbatches = 4;
  options.schedule = schedule;
  options.devices = std::move(devices);
  return options;
}

TEST(PipeOnDevices, IsTheSameOnOneAndOnSeveral) {
  order_faults();
  const Outcome expected = run(on({test_device()}));
  expect_equal(run(on({test_device(0), test_device(1)})), expected);
  expect_equal(run(on({test_device(1), test_device(0), test_device(1)})), expected);
  expect_equal(run(on({test_device(), test_device()})), expected);
  expect_equal(run(on({test_device(0), test_device(1)}, "zb-h1")), expected);
  EXPECT_THAT(order_faults(), testing::IsEmpty());
}

TEST(PipeOnDevices, IsTheSameForACallerWithAStreamOfItsOwn) {
  const Outcome expected = run(on({test_device(0), test_device(1)}));
  order_faults();
  const OwnStream own(test_device(0));
  expect_equal(run(on({test_device(0), test_device(1)})), expected);
  EXPECT_THAT(order_faults(), testing::IsEmpty());
}

TEST(PipeOnDevices, TakesWhatTheCallerHasMadeOnAnotherDevice) {
  torch::nn::Sequential plain = model();
  Pipe pipe(plain, on({test_device(0), test_device(0)}));
  order_faults();
  const OwnStream own(test_device(1));
  const auto made = [&](std::int64_t columns) {
    return torch::randn({kRows, columns}).to(test_device(1)).mul(2);
  };
  for (int i = 0; i < kSteps; ++i) pipe.step(made(kWidth), made(kClasses), loss);
  EXPECT_THAT(order_faults(), testing::IsEmpty());
}

TEST(PipeOnDevices, AStepWaitsForTheLossAlone) {
  EXPECT_EQ(run(on({test_device(0), test_device(1)})).waits, kSteps);
}

TEST(PipeOnDevices, AMeanOfNothingIsRefusedThereToo) {
  torch::nn::Sequential plain = model();
  Pipe pipe(plain, on({test_device(0), test_device(1)}));
  const torch::Tensor input = torch::randn({kRows, kWidth}), target = torch::randn({kRows, 1});
  const auto of_nothing = [](const torch::Tensor& output, const torch::Tensor&) {
    return output.sum() * std::numeric_limits<double>::quiet_NaN();
  };
  try {
    pipe.step(input, target, of_nothing);
    FAIL() << "was accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("the loss of microbatch 0 is not a number"));
  }
}

}  // namespace
}  // namespace headrace
