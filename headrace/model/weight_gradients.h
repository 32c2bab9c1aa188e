// Weight gradients, computed at once or put off: BackwardInput defers them, BackwardWeight runs
// what was deferred. The same kernels run in either case, so that split and unsplit backward agree
// to the bit.
//
// Each gradient is added straight into the parameter's `.grad`, in place and in one kernel.
// (Autograd would make a gradient of its own for each microbatch and then add it: two more passes
// over the weights.)
//
// Zero-bubble schedules split the backward here: Qi et al., Zero Bubble Pipeline Parallelism, ICLR
// 2024.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include <torch/types.h>

namespace headrace {

class WeightGradients {
 public:
  using Work = std::function<void()>;

  void defer(bool yes) { deferring_ = yes; }
  bool deferring() const { return deferring_; }
  void add(Work work) {
    if (deferring_)
      pending_.push_back(std::move(work));
    else
      work();
  }
  std::vector<Work> take() { return std::exchange(pending_, {}); }

 private:
  bool deferring_ = false;
  std::vector<Work> pending_;
};

// Runs or defers; at once where there is no sink.
void add_weight_gradient(WeightGradients* sink, WeightGradients::Work work);

// The gradient to add to: made on first use, so that a layer outside the runtime works too.
torch::Tensor gradient_of(const torch::Tensor& parameter);

// Adds a · b to a parameter's gradient, where it is trained. The sum is fp32's, whatever the type
// of a and b.
void add_product(const torch::Tensor& parameter, const torch::Tensor& a, const torch::Tensor& b);

// The gradients of y = x · weightᵀ + bias for the parameters that are trained.  dy: [n, out], x:
// [n, in], both of one type; `bias` may be undefined.
void add_linear_gradients(WeightGradients* sink,
                          const torch::Tensor& dy,
                          const torch::Tensor& x,
                          const torch::Tensor& weight,
                          const torch::Tensor& bias);

}  // namespace headrace
