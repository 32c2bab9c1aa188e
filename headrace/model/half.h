// A list of operations (ops/) as one node of the autograd graph, with a backward of our own; of a block's half with the
// residual addition:  x + operations(x).
//
// The same kernels as the plain composition, with less around them: a node of the graph for every small operation costs
// more than the operation itself where models are small, and passes over memory where they are large.
#pragma once

#include <memory>
#include <vector>

#include <torch/types.h>

#include "headrace/model/ops/op.h"
#include "headrace/tensor/tensors.h"

namespace headrace {

// Operations, and how many parameters each has.
class OpList {
 public:
  explicit OpList(const std::vector<Operation>& operations);

  struct Entry {
    std::unique_ptr<Op> op;
    std::size_t first_parameter = 0;
  };
  const std::vector<Entry>& entries() const { return entries_; }
  // Of the entries, the last that is a linear layer.
  std::size_t last_linear() const { return last_linear_; }

 private:
  std::vector<Entry> entries_;
  std::size_t last_linear_ = 0;
};

struct HalfOptions {
  bool training = true;
  std::uint64_t key = 0;  // of random draws
  WeightGradients* sink = nullptr;
  bool residual = true;
  // Keep nothing for the backward but the input, and run the operations again there.
  bool recompute = false;
};

// x: [sequences, tokens, width] → the same shape. `weights`: the operations' parameters one after the other; `casts`: of
// the matrices among them, at their places, what products read (precision.h).
torch::Tensor run_operations(const torch::Tensor& x,
                             const std::shared_ptr<const OpList>& operations,
                             const Tensors& weights,
                             const Tensors& casts,
                             const HalfOptions& options);

}  // namespace headrace
