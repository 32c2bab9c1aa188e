// The operations of a transformer whose weight gradients are ours: each adds its weight gradient
// straight into the parameter's `.grad`, in place and in one kernel, at once or when the context's
// WeightGradients say so. (Autograd would make a gradient of its own for each microbatch and then
// add it: two more passes over the weights.)
//
// Zero-bubble schedules split the backward here: Qi et al., Zero Bubble Pipeline Parallelism, ICLR
// 2024.
#pragma once

#include <torch/torch.h>

#include "headrace/model/layer.h"

namespace headrace {

// x · weightᵀ + bias.  x: [..., in], weight: [out, in], bias: [out].
torch::Tensor linear(const torch::Tensor& x,
                     const torch::Tensor& weight,
                     const torch::Tensor& bias,
                     WeightGradients* weight_gradients);

// Rows of `table` by id, plus rows of `positions` by place.  ids: [rows, context] int64 → [rows,
// context, width].
torch::Tensor embed(const torch::Tensor& ids,
                    const torch::Tensor& table,
                    const torch::Tensor& positions,
                    WeightGradients* weight_gradients);

struct HeadResult {
  torch::Tensor loss;     // 0-dim double: scale · sum of the valid tokens' cross entropies
  torch::Tensor correct;  // 0-dim int64, where asked for: valid tokens whose most likely successor
                          // is the target
};

// Cross entropy of x · weightᵀ against targets (-100 is ignored), with the logits kept once: their
// buffer becomes the probabilities and then their gradient.  x: [..., width], weight: [vocabulary,
// width], targets: x's leading sizes.
HeadResult linear_cross_entropy(const torch::Tensor& x,
                                const torch::Tensor& weight,
                                const torch::Tensor& targets,
                                double scale,
                                bool count_correct,
                                WeightGradients* weight_gradients);

// Each element kept with probability 1 − p and scaled by 1 / (1 − p), or zero; the mask is drawn
// from `key` alone.
torch::Tensor keyed_dropout(const torch::Tensor& x, double p, std::uint64_t key);

}  // namespace headrace
