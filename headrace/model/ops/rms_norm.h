// RMS norm (Zhang and Sennrich, Root Mean Square Layer Normalization, 2019) over the last dimension, in fp32.
#pragma once

#include <torch/types.h>

namespace headrace {

// [..., 1]: what each vector is multiplied by, 1 / √(mean square + epsilon).
torch::Tensor rms_scale(const torch::Tensor& x, double epsilon);

// x · scale · weight.
torch::Tensor rms_norm(const torch::Tensor& x,
                       const torch::Tensor& scale,
                       const torch::Tensor& weight);

// The gradient of x; that of the weight is added to its own where it is trained.
torch::Tensor rms_norm_backward(const torch::Tensor& dy,
                                const torch::Tensor& x,
                                const torch::Tensor& scale,
                                const torch::Tensor& weight);

}  // namespace headrace
