#include "headrace/model/halves.h"

#include <array>
#include <cstdint>
#include <tuple>
#include <utility>

#include "headrace/model/operations.h"

namespace headrace {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;
// Below autograd: inside our own forward and backward there is no graph to record.
using Direct = at::AutoDispatchBelowADInplaceOrView;

constexpr double kNormEpsilon = 1e-5;

// What a half keeps from its forward to its backward, which takes it: it is freed as soon as it was
// used.
struct Saved : torch::CustomClassHolder {
  HalfWeights weights;
  HalfOptions options;
  Tensor x, normed, mean, deviation;  // of the norm
  Tensor inner;                       // qkv, or the MLP's input to gelu
  Tensor mixed;                       // what the second layer reads
  Tensor attention, log_sum;          // attention only
  Tensor mask;                        // of the dropout, where there is one
};

Saved take(AutogradContext* context) {
  return std::move(
      *c10::static_intrusive_pointer_cast<Saved>(context->saved_data["saved"].toCapsule()));
}

Tensor rows_of(const Tensor& x) {
  return x.reshape({-1, x.size(-1)});
}

// normed, and the first layer on top of it.
Tensor norm_and_first(Saved& saved, const Tensor& x) {
  const HalfWeights& w = saved.weights;
  saved.x = x;
  std::tie(saved.normed, saved.mean, saved.deviation) =
      torch::native_layer_norm(x, {x.size(-1)}, w.norm_weight, w.norm_bias, kNormEpsilon);
  return torch::addmm(w.first_bias, rows_of(saved.normed), w.first_weight.t());
}

// The second layer, dropout and the residual addition.
Tensor second_and_residual(Saved& saved) {
  const HalfWeights& w = saved.weights;
  Tensor y = torch::addmm(w.second_bias, saved.mixed, w.second_weight.t());
  if (saved.options.dropout > 0) {
    saved.mask = keyed_mask(y, saved.options.dropout, saved.options.key);
    y.mul_(saved.mask);
  }
  return y.add_(rows_of(saved.x)).view(saved.x.sizes());
}

// Back through dropout and the second layer: the gradient of what that layer read.
Tensor back_through_second(const Saved& saved, const Tensor& dy) {
  const HalfWeights& w = saved.weights;
  const Tensor dropped = saved.mask.defined() ? dy * saved.mask : dy;
  add_linear_gradients(saved.options.sink, dropped, saved.mixed, w.second_weight, w.second_bias);
  return torch::mm(dropped, w.second_weight);
}

// Back through the first layer and the norm, with the residual's gradient added.
Tensor back_through_first(const Saved& saved, const Tensor& d_inner, const Tensor& dy) {
  const HalfWeights& w = saved.weights;
  add_linear_gradients(saved.options.sink, d_inner, rows_of(saved.normed), w.first_weight,
                       w.first_bias);
  const Tensor d_normed = torch::mm(d_inner, w.first_weight).view(saved.x.sizes());
  const bool trained = w.norm_weight.requires_grad();
  auto [dx, d_weight, d_bias] = torch::native_layer_norm_backward(
      d_normed, saved.x, {saved.x.size(-1)}, saved.mean, saved.deviation, w.norm_weight,
      w.norm_bias, std::array<bool, 3>{true, trained, trained});
  if (trained) {
    gradient_of(w.norm_weight).add_(d_weight);
    gradient_of(w.norm_bias).add_(d_bias);
  }
  return dx.add_(dy.view(dx.sizes()));
}

// Queries, keys and values as [rows, heads, context, width of a head] views of one [rows · context,
// 3 · width] tensor.
std::array<Tensor, 3> heads_of(const Saved& saved) {
  const std::int64_t rows = saved.x.size(0), length = saved.x.size(1), width = saved.x.size(2);
  const std::int64_t each = width / saved.options.heads;
  const auto part = [&](std::int64_t number) {
    return saved.inner.as_strided({rows, saved.options.heads, length, each},
                                  {length * 3 * width, each, 3 * width, 1}, number * width);
  };
  return {part(0), part(1), part(2)};
}

class AttentionFunction : public torch::autograd::Function<AttentionFunction> {
 public:
  static Variable forward(AutogradContext* context,
                          const Variable& x,
                          const Variable& /*anything trained*/,
                          const HalfWeights& weights,
                          const HalfOptions& options) {
    const Direct direct;
    auto saved = c10::make_intrusive<Saved>();
    saved->weights = weights;
    saved->options = options;
    saved->inner = norm_and_first(*saved, x);
    const auto [q, k, v] = heads_of(*saved);
    std::tie(saved->attention, saved->log_sum) =
        torch::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, /*is_causal=*/true);
    saved->mixed = rows_of(saved->attention.transpose(1, 2).reshape(x.sizes()));
    const Tensor y = second_and_residual(*saved);
    context->saved_data["saved"] = c10::IValue::make_capsule(saved);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const Direct direct;
    const Saved saved = take(context);
    const Tensor dy = rows_of(gradients[0]);
    const Tensor d_mixed = back_through_second(saved, dy);
    const auto [q, k, v] = heads_of(saved);
    const std::int64_t rows = saved.x.size(0), length = saved.x.size(1), width = saved.x.size(2);
    const Tensor d_attention =
        d_mixed.view({rows, length, saved.options.heads, -1}).transpose(1, 2);
    const auto [dq, dk, dv] = torch::_scaled_dot_product_flash_attention_for_cpu_backward(
        d_attention, q, k, v, saved.attention, saved.log_sum, 0.0, /*is_causal=*/true);
    const auto flat = [&](const Tensor& t) {
      return t.transpose(1, 2).reshape({rows * length, width});
    };
    return {back_through_first(saved, torch::cat({flat(dq), flat(dk), flat(dv)}, 1), dy),
            Variable(), Variable(), Variable()};
  }
};

class MlpFunction : public torch::autograd::Function<MlpFunction> {
 public:
  static Variable forward(AutogradContext* context,
                          const Variable& x,
                          const Variable& /*anything trained*/,
                          const HalfWeights& weights,
                          const HalfOptions& options) {
    const Direct direct;
    auto saved = c10::make_intrusive<Saved>();
    saved->weights = weights;
    saved->options = options;
    saved->inner = norm_and_first(*saved, x);
    saved->mixed = torch::gelu(saved->inner, "tanh");
    const Tensor y = second_and_residual(*saved);
    context->saved_data["saved"] = c10::IValue::make_capsule(saved);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const Direct direct;
    const Saved saved = take(context);
    const Tensor dy = rows_of(gradients[0]);
    const Tensor d_inner =
        torch::gelu_backward(back_through_second(saved, dy), saved.inner, "tanh");
    return {back_through_first(saved, d_inner, dy), Variable(), Variable(), Variable()};
  }
};

}  // namespace

Tensor attention_half(const Tensor& x, const HalfWeights& weights, const HalfOptions& options) {
  return AttentionFunction::apply(x, weights.norm_weight, weights, options);
}

Tensor mlp_half(const Tensor& x, const HalfWeights& weights, const HalfOptions& options) {
  return MlpFunction::apply(x, weights.norm_weight, weights, options);
}

}  // namespace headrace
