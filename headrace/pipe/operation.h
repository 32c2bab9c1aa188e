// A whole pipeline as one operation of autograd.
#pragma once

#include <functional>

#include <torch/torch.h>

namespace headrace {

using OneToOne = std::function<torch::Tensor(const torch::Tensor&)>;

// forward(input), such that its backward is backward(gradient of the output), which gives the
// gradient of the input, or an undefined tensor. The output wants a gradient even where the input
// wants none.
torch::Tensor as_one_operation(const torch::Tensor& input,
                               const OneToOne& forward,
                               const OneToOne& backward);

}  // namespace headrace
