// Which modules of a torch::nn::Sequential make up which stage of a Pipe.
#pragma once

#include <vector>

#include <torch/torch.h>

namespace headrace {

// First module of each stage, and one past the last: by `balance` (modules a stage), or, where that
// is empty, such that the largest number of parameters of a stage is least. Throws UsageError where
// they do not come to the model's modules, or two stages would have a tensor in common.
std::vector<int> cut_modules(const torch::nn::Sequential& model,
                             const std::vector<int>& balance,
                             int stages);

// Of a module.
int stage_of(int module, const std::vector<int>& starts);

}  // namespace headrace
