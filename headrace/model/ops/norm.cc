#include <array>
#include <tuple>
#include <utility>

#include "headrace/model/ops/op.h"
#include "headrace/model/ops/rms_norm.h"

namespace headrace {
namespace {

using torch::Tensor;

class LayerNorm : public Op {
 public:
  explicit LayerNorm(const NormOp& norm) : norm_(norm) {}

  Tensor forward(Tensor x, const OpWeights& weights, const OpContext&, Kept& kept) const override {
    auto [y, mean, deviation] = torch::native_layer_norm(x, {norm_.width}, weights.parameters[0],
                                                         weights.parameters[1], norm_.epsilon);
    kept = {std::move(x), std::move(mean), std::move(deviation)};
    return y;
  }

  Tensor backward(Tensor dy,
                  const OpWeights& weights,
                  const OpContext&,
                  Kept& kept) const override {
    const Tensor &weight = weights.parameters[0], &bias = weights.parameters[1];
    auto [dx, d_weight, d_bias] = torch::native_layer_norm_backward(
        dy.to(kept[0].scalar_type()), kept[0], {norm_.width}, kept[1], kept[2], weight, bias,
        std::array<bool, 3>{true, weight.requires_grad(), bias.requires_grad()});
    if (d_weight.defined()) gradient_of(weight).add_(d_weight);
    if (d_bias.defined()) gradient_of(bias).add_(d_bias);
    kept.clear();
    return dx;
  }

 private:
  const NormOp norm_;
};

class RmsNorm : public Op {
 public:
  explicit RmsNorm(const NormOp& norm) : norm_(norm) {}

  Tensor forward(Tensor x, const OpWeights& weights, const OpContext&, Kept& kept) const override {
    const Tensor scale = rms_scale(x, norm_.epsilon);
    Tensor y = rms_norm(x, scale, weights.parameters[0]);
    kept = {std::move(x), scale};
    return y;
  }

  Tensor backward(Tensor dy,
                  const OpWeights& weights,
                  const OpContext&,
                  Kept& kept) const override {
    Tensor dx =
        rms_norm_backward(dy.to(kept[0].scalar_type()), kept[0], kept[1], weights.parameters[0]);
    kept.clear();
    return dx;
  }

 private:
  const NormOp norm_;
};

}  // namespace

std::unique_ptr<Op> make_op(const NormOp& norm) {
  if (norm.is_rms) return std::make_unique<RmsNorm>(norm);
  return std::make_unique<LayerNorm>(norm);
}

}  // namespace headrace
