// How an operation of plan/operations.h is computed: forward, and a backward of our own that may put its weights'
// gradients off. half.h runs lists of them.
//
//   const std::unique_ptr<Op> op = make_op(LinearOp{…});
//   Kept kept;
//   y = op->forward(x, weights, context, kept);
//   dx = op->backward(dy, weights, context, kept);
//
// Rows are [sequences · tokens, numbers]. An op may write into the rows and the gradient that it is given. It runs
// within Direct (precision.h): no graph is recorded.
#pragma once

#include <cstdint>
#include <memory>

#include <c10/util/SmallVector.h>
#include <torch/types.h>

#include "headrace/model/weight_gradients.h"
#include "headrace/plan/operations.h"

namespace headrace {

// The operation's parameters, in its order, and, of matrices, what products read (precision.h: Cast).
struct OpWeights {
  const torch::Tensor* parameters = nullptr;
  const torch::Tensor* casts = nullptr;
};

struct OpContext {
  std::int64_t sequences = 0, tokens = 0;  // tokens: of each
  torch::Tensor stream;                    // the rows that the list began with
  bool training = true;
  std::uint64_t key = 0;  // of random draws
  WeightGradients* sink = nullptr;
};

// From the forward to the backward, which takes it.
using Kept = c10::SmallVector<torch::Tensor, 5>;

class Op {
 public:
  Op() = default;
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  virtual ~Op() = default;

  virtual torch::Tensor forward(torch::Tensor x,
                                const OpWeights& weights,
                                const OpContext& context,
                                Kept& kept) const = 0;
  // What forward() keeps, where its result is not wanted: for a backward after a forward that kept nothing.
  virtual void keep(torch::Tensor x,
                    const OpWeights& weights,
                    const OpContext& context,
                    Kept& kept) const {
    forward(std::move(x), weights, context, kept);
  }
  // Throws what was kept away.
  virtual torch::Tensor backward(torch::Tensor dy,
                                 const OpWeights& weights,
                                 const OpContext& context,
                                 Kept& kept) const = 0;
};

// A file each.
std::unique_ptr<Op> make_op(const NormOp& norm);
std::unique_ptr<Op> make_op(const LinearOp& linear);
std::unique_ptr<Op> make_op(const HeadNormOp& norm);
std::unique_ptr<Op> make_op(const RotaryOp& rotary);
std::unique_ptr<Op> make_op(const AttentionOp& attention);
std::unique_ptr<Op> make_op(const ActivationOp& activation);
std::unique_ptr<Op> make_op(const GatedOp& gated);
std::unique_ptr<Op> make_op(const DropoutOp& dropout);

}  // namespace headrace
