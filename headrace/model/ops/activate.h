// The activations of plan/operations.h.
#pragma once

#include <torch/types.h>

#include "headrace/plan/operations.h"

namespace headrace {

torch::Tensor activate(Activation kind, const torch::Tensor& x);
// The gradient of x.
torch::Tensor activate_backward(Activation kind, const torch::Tensor& dy, const torch::Tensor& x);

}  // namespace headrace
