// The optimizer step on this rank's parameters: SGD with momentum, or AdamW (Loshchilov and Hutter,
// Decoupled Weight Decay Regularization, ICLR 2019), by libtorch's fused kernels. Weight decay
// applies to matrices only (embeddings included), not to biases and norms. What happens to a
// parameter depends on its own gradient and state alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "headrace/tensor/tensors.h"
#include "headrace/train/config/config.h"

namespace headrace {

// At step `step` (from 0) of `steps`. It climbs linearly from 0, which no step has, to
// config.learning_rate at the last step of the warm-up, or without one at the first step; from there
// half a cosine leads to config.minimum_learning_rate at the last step of all.
double learning_rate(const OptimizerConfig& config, std::int64_t step, std::int64_t steps);

class Optimizer {
 public:
  // Of parameters with the shapes of `values`, whose values are not looked at.
  Optimizer(const OptimizerConfig& config, const Tensors& values);

  // Changes the values, which are outside of autograd, by their gradients; both in the order of the
  // constructor's.
  void step(double rate, const Tensors& values, const Tensors& gradients);

  // What it keeps, in the same order; empty where the kind of optimizer keeps none.
  const Tensors& first() const { return first_; }    // Adam's first moment; SGD's momentum
  const Tensors& second() const { return second_; }  // Adam's second moment
  std::int64_t updates() const { return updates_; }  // steps made
  // As if so many steps had been made; the moments are written into first() and second().
  void set_updates(std::int64_t updates);

 private:
  // Parameters that share a weight decay, as the fused kernels take them.
  struct Group {
    double weight_decay = 0;
    std::vector<std::size_t> members;
  };

  void step_adamw(const Group& group, double rate, const Tensors& values, const Tensors& gradients);
  void step_sgd(const Group& group, double rate, const Tensors& values, const Tensors& gradients);

  OptimizerConfig config_;
  std::vector<Group> groups_;
  Tensors first_, second_;
  Tensors counts_;  // Adam's kernel wants a number of steps for each
  std::int64_t updates_ = 0;
};

}  // namespace headrace
