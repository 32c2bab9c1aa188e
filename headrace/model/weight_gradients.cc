#include "headrace/model/weight_gradients.h"

#include <utility>

#include "headrace/model/precision.h"

namespace headrace {

void add_weight_gradient(WeightGradients* sink, WeightGradients::Work work) {
  if (sink != nullptr)
    sink->add(std::move(work));
  else
    work();
}

torch::Tensor gradient_of(const torch::Tensor& parameter) {
  if (!parameter.grad().defined()) parameter.mutable_grad() = torch::zeros_like(parameter);
  return parameter.grad();
}

void add_product(const torch::Tensor& parameter, const torch::Tensor& a, const torch::Tensor& b) {
  if (!parameter.requires_grad()) return;
  const torch::Tensor gradient = gradient_of(parameter);
  if (a.scalar_type() == gradient.scalar_type())
    gradient.addmm_(a, b);
  else
    gradient.add_(torch::mm(a, b));
}

void add_linear_gradients(WeightGradients* sink,
                          const torch::Tensor& dy,
                          const torch::Tensor& x,
                          const torch::Tensor& weight,
                          const torch::Tensor& bias) {
  const bool has_bias = bias.defined() && bias.requires_grad();
  if (!weight.requires_grad() && !has_bias) return;
  add_weight_gradient(sink, [dy, x, weight, bias, has_bias] {
    const torch::NoGradGuard no_grad;
    const Direct direct;
    add_product(weight, dy.t(), x);
    if (has_bias) gradient_of(bias).add_(dy.sum(0, false, bias.scalar_type()));
  });
}

}  // namespace headrace
