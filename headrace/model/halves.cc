#include "headrace/model/halves.h"

#include <array>
#include <cstdint>
#include <tuple>
#include <utility>

#include "headrace/model/attention.h"
#include "headrace/model/operations.h"
#include "headrace/model/precision.h"

namespace headrace {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr double kNormEpsilon = 1e-5;

// What a half keeps from its forward to its backward, which takes it: it is freed as soon as it was
// used.
struct Saved : torch::CustomClassHolder {
  HalfWeights weights;
  HalfOptions options;
  Tensor x;
  struct Branch {
    Tensor normed, mean, deviation;  // of the norm; `normed` in the type of the products
    Tensor inner;                    // qkv, or the MLP's input to gelu
    Tensor mixed;                    // what the second layer reads
    Attended attended;               // attention only
    Tensor mask;                     // of the dropout, where there is one
  } branch;
};

torch::ScalarType product_type(const Saved& saved) {
  return saved.weights.first_cast.scalar_type();
}

Saved take(AutogradContext* context) {
  return std::move(
      *c10::static_intrusive_pointer_cast<Saved>(context->saved_data["saved"].toCapsule()));
}

Tensor rows_of(const Tensor& x) {
  return x.reshape({-1, x.size(-1)});
}

// The norm, and the first layer on top of it.
void norm_and_first(Saved& saved) {
  const HalfWeights& w = saved.weights;
  Saved::Branch& b = saved.branch;
  Tensor normed;
  std::tie(normed, b.mean, b.deviation) = torch::native_layer_norm(
      saved.x, {saved.x.size(-1)}, w.norm_weight, w.norm_bias, kNormEpsilon);
  b.normed = normed.to(product_type(saved));
  b.inner =
      torch::addmm(w.first_bias.to(b.normed.scalar_type()), rows_of(b.normed), w.first_cast.t());
}

void draw_mask(Saved& saved) {
  const HalfOptions& options = saved.options;
  if (options.dropout > 0)
    saved.branch.mask = keyed_mask(rows_of(saved.x), options.dropout, options.key);
}

// The second layer, dropout and the residual addition.
Tensor second_and_residual(Saved& saved) {
  const HalfWeights& w = saved.weights;
  Saved::Branch& b = saved.branch;
  Tensor y = torch::addmm(w.second_bias.to(b.mixed.scalar_type()), b.mixed, w.second_cast.t())
                 .to(saved.x.scalar_type());
  draw_mask(saved);
  if (b.mask.defined()) y.mul_(b.mask);
  return y.add_(rows_of(saved.x)).view(saved.x.sizes());
}

// Back through dropout and the second layer: the gradient of what that layer read.
Tensor back_through_second(const Saved& saved, const Tensor& dy) {
  const HalfWeights& w = saved.weights;
  const Saved::Branch& b = saved.branch;
  const Tensor dropped = (b.mask.defined() ? dy * b.mask : dy).to(b.mixed.scalar_type());
  add_linear_gradients(saved.options.sink, dropped, b.mixed, w.second_weight, w.second_bias);
  return torch::mm(dropped, w.second_cast);
}

// Back through the first layer and the norm, with the residual's gradient added.
Tensor back_through_first(const Saved& saved, const Tensor& d_inner, const Tensor& dy) {
  const HalfWeights& w = saved.weights;
  const Saved::Branch& b = saved.branch;
  add_linear_gradients(saved.options.sink, d_inner, rows_of(b.normed), w.first_weight,
                       w.first_bias);
  const Tensor d_normed =
      torch::mm(d_inner, w.first_cast).view(saved.x.sizes()).to(saved.x.scalar_type());
  const bool trained = w.norm_weight.requires_grad();
  auto [dx, d_weight, d_bias] = torch::native_layer_norm_backward(
      d_normed, saved.x, {saved.x.size(-1)}, b.mean, b.deviation, w.norm_weight, w.norm_bias,
      std::array<bool, 3>{true, trained, trained});
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
    return saved.branch.inner.as_strided({rows, saved.options.heads, length, each},
                                         {length * 3 * width, each, 3 * width, 1}, number * width);
  };
  return {part(0), part(1), part(2)};
}

// A half's own part: from what its first layer gives to what its second reads, and back.
struct Attention {
  static void mix(Saved& saved) {
    Saved::Branch& b = saved.branch;
    const auto [q, k, v] = heads_of(saved);
    b.attended = attend(q, k, v);
    b.mixed = rows_of(b.attended.result.transpose(1, 2).reshape(saved.x.sizes()));
  }

  static Tensor back(const Saved& saved, const Tensor& d_mixed) {
    const auto [q, k, v] = heads_of(saved);
    const std::int64_t rows = saved.x.size(0), length = saved.x.size(1), width = saved.x.size(2);
    const Tensor d_attention =
        d_mixed.view({rows, length, saved.options.heads, -1}).transpose(1, 2);
    const auto [dq, dk, dv] = attend_backward(d_attention, q, k, v, saved.branch.attended);
    const auto flat = [&](const Tensor& t) {
      return t.transpose(1, 2).reshape({rows * length, width});
    };
    return torch::cat({flat(dq), flat(dk), flat(dv)}, 1);
  }
};

struct Mlp {
  static void mix(Saved& saved) { saved.branch.mixed = torch::gelu(saved.branch.inner, "tanh"); }

  static Tensor back(const Saved& saved, const Tensor& d_mixed) {
    return torch::gelu_backward(d_mixed, saved.branch.inner, "tanh");
  }
};

template <class Part>
class Half : public torch::autograd::Function<Half<Part>> {
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
    saved->x = x;
    norm_and_first(*saved);
    Part::mix(*saved);
    const Tensor y = second_and_residual(*saved);
    if (options.recompute) saved->branch = {};
    context->saved_data["saved"] = c10::IValue::make_capsule(saved);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const Direct direct;
    Saved saved = take(context);
    if (saved.options.recompute) {  // all but the second layer, whose result no backward wants
      norm_and_first(saved);
      Part::mix(saved);
      draw_mask(saved);
    }
    const Tensor dy = rows_of(gradients[0]);
    const Tensor d_inner = Part::back(saved, back_through_second(saved, dy));
    return {back_through_first(saved, d_inner, dy), Variable(), Variable(), Variable()};
  }
};

}  // namespace

Tensor attention_half(const Tensor& x, const HalfWeights& weights, const HalfOptions& options) {
  return Half<Attention>::apply(x, weights.norm_weight, weights, options);
}

Tensor mlp_half(const Tensor& x, const HalfWeights& weights, const HalfOptions& options) {
  return Half<Mlp>::apply(x, weights.norm_weight, weights, options);
}

}  // namespace headrace
