// The operations of a language model besides its blocks, each with a backward of our own that adds
// weight gradients by weight_gradients.h.
#pragma once

#include <cstdint>

#include <torch/types.h>

#include "headrace/model/metrics.h"
#include "headrace/model/weight_gradients.h"
#include "headrace/tensor/tensors.h"

namespace headrace {

// Rows of `table` by id, plus rows of `positions`, where there are any, by place.  ids: [rows, context] int64 → [rows,
// context, width].
torch::Tensor embed(const torch::Tensor& ids,
                    const torch::Tensor& table,
                    const torch::Tensor& positions,
                    WeightGradients* weight_gradients);

// Cross entropy of x · weightᵀ against targets (-100 is ignored), with the logits kept once (chunked_cross_entropy.h: not at
// all): their
// buffer becomes the probabilities and then their gradient.  x: [..., width], weight: [vocabulary,
// width], targets: x's leading sizes. `matrix`: the weight in the type of the products
// (precision.h); probabilities and loss are fp32's.  Returns the loss (0-dim double: scale · sum of
// the valid tokens' cross entropies), then each metric's count.
Tensors linear_cross_entropy(const torch::Tensor& x,
                             const torch::Tensor& weight,
                             const torch::Tensor& matrix,
                             const torch::Tensor& targets,
                             double scale,
                             const std::vector<Metric>& metrics,
                             WeightGradients* weight_gradients);

// Dropout's factors for a tensor like x: 1 / (1 − p) with probability 1 − p, else 0, drawn from
// `key` alone.
torch::Tensor keyed_mask(const torch::Tensor& x, double p, std::uint64_t key);

// x times such a mask.
torch::Tensor keyed_dropout(const torch::Tensor& x, double p, std::uint64_t key);

}  // namespace headrace
