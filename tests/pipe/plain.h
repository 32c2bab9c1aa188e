// A plain torch::nn::Sequential trained in one process, for a Pipe over the same to be held
// against.
#pragma once

#include <functional>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace headrace {

struct Batch {
  torch::Tensor input, target;
};

using LossOf = std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>;

// The same microbatches, one after the other. `divisor`: of a loss that is a sum; 0: it is a mean
// over rows.
inline double plain_step(torch::nn::Sequential model,
                         const Batch& batch,
                         int microbatches,
                         const LossOf& loss_of,
                         double divisor = 0) {
  double sum = 0;
  const auto inputs = batch.input.tensor_split(microbatches, 0);
  const auto targets = batch.target.tensor_split(microbatches, 0);
  for (std::size_t m = 0; m < inputs.size(); ++m) {
    const double share = divisor > 0 ? 1 / divisor
                                     : static_cast<double>(inputs[m].size(0)) /
                                           static_cast<double>(batch.input.size(0));
    // The rows are a tensor of their own: the model may write to them.
    const torch::Tensor loss = loss_of(model->forward(inputs[m].clone()), targets[m]) * share;
    loss.backward();
    sum += loss.item<double>();
  }
  return sum;
}

inline void expect_same_gradients(const std::vector<torch::Tensor>& actual,
                                  const std::vector<torch::Tensor>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(actual[i].grad().defined()) << "parameter " << i;
    EXPECT_TRUE(torch::equal(actual[i].grad(), expected[i].grad())) << "parameter " << i;
  }
}

inline void expect_near_gradients(const std::vector<torch::Tensor>& actual,
                                  const std::vector<torch::Tensor>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(actual[i].grad().defined()) << "parameter " << i;
    EXPECT_TRUE(torch::allclose(actual[i].grad(), expected[i].grad(), 1e-4, 1e-6))
        << "parameter " << i;
  }
}

}  // namespace headrace
