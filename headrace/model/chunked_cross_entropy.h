// Linear cross entropy (operations.h) whose logits are never there as a whole.
#pragma once

#include <cstdint>

#include "headrace/model/metrics.h"
#include "headrace/model/weight_gradients.h"
#include "headrace/tensor/tensors.h"

namespace headrace {

// As linear_cross_entropy, so many rows at a time. Kept for the backward are the rows that were read and a number each;
// the backward makes the logits again, and adds the weight's gradient at once: put off, it would make them a third time.
Tensors chunked_cross_entropy(const torch::Tensor& x,
                              const torch::Tensor& weight,
                              const torch::Tensor& matrix,
                              const torch::Tensor& targets,
                              double scale,
                              const std::vector<Metric>& metrics,
                              std::int64_t rows_at_once);

}  // namespace headrace
