// The optimizer step on this rank's parameters: SGD with momentum, or AdamW (Loshchilov and Hutter,
// Decoupled Weight Decay Regularization, ICLR 2019), by libtorch's fused kernels. Weight decay
// applies to matrices only (embeddings included), not to biases and norms. What happens to a
// parameter depends on its own gradient and state alone.
#pragma once

#include <cstdint>
#include <vector>

#include "headrace/runtime/gradients.h"
#include "headrace/train/config/config.h"

namespace headrace {

// At step `step` (from 0) of `steps`. It climbs linearly from 0, which no step has, to
// config.learning_rate at the last step of the warm-up, or without one at the first step; from there
// half a cosine leads to config.minimum_learning_rate at the last step of all.
double learning_rate(const TrainConfig& config, std::int64_t step, std::int64_t steps);

class Optimizer {
 public:
  Optimizer(const TrainConfig& config, const std::vector<OwnedParameter*>& parameters);

  void step(double rate);

 private:
  // Parameters that share a weight decay, as the fused kernels take them.
  struct Group {
    double weight_decay = 0;
    std::vector<OwnedParameter*> parameters;
    Tensors first;   // Adam's first moment; SGD's momentum
    Tensors second;  // Adam's second moment
    Tensors steps;   // one number a parameter
  };

  void step_adamw(Group& group, double rate);
  void step_sgd(Group& group, double rate);

  TrainConfig config_;
  std::vector<Group> groups_;
  bool first_step_ = true;
};

}  // namespace headrace
