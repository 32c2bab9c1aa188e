// Causal attention without dropout, by the kernel that fits the device and the type: the CPU's flash attention; on
// others flash attention (Dao, FlashAttention-2, 2023) in half precision, where they have it for this width of a head,
// and memory-efficient attention (Rabe and Staats, 2021) else.
#pragma once

#include <tuple>

#include <torch/types.h>

namespace headrace {

// What the backward wants of a forward.
struct Attended {
  torch::Tensor result;   // as q
  torch::Tensor log_sum;  // the logarithms of the softmax's sums
  torch::Tensor seed,
      offset;  // what kernels of devices keep of a dropout, also where there is none
};

// Each [rows, heads, context, width of a head], of any strides but the last, which is 1. Of any width: where a device's
// kernels lack one, it is made wider with zeros.
Attended attend(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v);

// The gradients of q, k and v.
std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> attend_backward(
    const torch::Tensor& gradient,
    const torch::Tensor& q,
    const torch::Tensor& k,
    const torch::Tensor& v,
    const Attended& attended);

}  // namespace headrace
