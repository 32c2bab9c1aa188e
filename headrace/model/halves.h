// The two halves of a transformer block, each one operation of the autograd graph with a backward
// of our own:
//
//   attention:  x + dropout(out(attention(qkv(norm(x)))))        causal, over `heads` heads
//   MLP:        x + dropout(down(gelu(up(norm(x)))))             gelu by its tanh form, as in GPT-2
//
// The same kernels as the plain composition, with less around them: a node of the graph for every
// small operation costs more than the operation itself where models are small, and passes over
// memory where they are large.
#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "headrace/model/weight_gradients.h"

namespace headrace {

// Parameters in the order norm.weight, norm.bias, first.weight, first.bias, second.weight,
// second.bias.
struct HalfWeights {
  torch::Tensor norm_weight, norm_bias, first_weight, first_bias, second_weight, second_bias;
  // The two matrices in the type of the products (precision.h); in fp32 themselves.
  torch::Tensor first_cast, second_cast;
};

struct HalfOptions {
  std::int64_t heads = 1;  // attention only
  double dropout = 0;      // 0: none
  std::uint64_t key = 0;   // of the dropout's mask
  WeightGradients* sink = nullptr;
  // Keep nothing of the branch for the backward but its input, and run it again there.
  bool recompute = false;
};

// x: [rows, context, width] → the same shape.
torch::Tensor attention_half(const torch::Tensor& x,
                             const HalfWeights& weights,
                             const HalfOptions& options);
torch::Tensor mlp_half(const torch::Tensor& x,
                       const HalfWeights& weights,
                       const HalfOptions& options);

}  // namespace headrace
