// What passes between stages and layers: a list of tensors, in which some may be undefined.
#pragma once

#include <vector>

#include <torch/types.h>

namespace headrace {

using Tensors = std::vector<torch::Tensor>;

}  // namespace headrace
