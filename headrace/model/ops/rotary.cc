#include <utility>
#include <vector>

#include "headrace/model/ops/op.h"
#include "headrace/tensor/streams.h"

namespace headrace {
namespace {

using torch::Tensor;

// In place, so that nothing is kept: a turn is undone by the turn back.
class Rotary : public Op {
 public:
  explicit Rotary(const RotaryOp& rotary) : rotary_(rotary) {}

  Tensor forward(Tensor x, const OpWeights&, const OpContext& context, Kept&) const override {
    turn(x, context, 1);
    return x;
  }

  Tensor backward(Tensor dy, const OpWeights&, const OpContext& context, Kept&) const override {
    turn(dy, context, -1);
    return dy;
  }

 private:
  void turn(const Tensor& rows, const OpContext& context, double direction) const {
    make_table(context.tokens, rows);
    const std::int64_t half = rotary_.head_width / 2;
    const Tensor heads = rows.view({context.sequences, context.tokens, rows.size(1)})
                             .narrow(2, 0, rotary_.heads * rotary_.head_width)
                             .unflatten(2, {rotary_.heads, rotary_.head_width});
    const auto of_tokens = [&](const Tensor& table) {
      return table.narrow(0, 0, context.tokens).unsqueeze(1);  // the same for all heads
    };
    const Tensor cosine = of_tokens(cosine_), sine = of_tokens(sine_);
    Tensor first = heads.narrow(3, 0, half), second = heads.narrow(3, half, half);
    const Tensor from_first = first * sine;
    first.mul_(cosine).addcmul_(second, sine, -direction);
    second.mul_(cosine).add_(from_first, direction);
  }

  // [tokens, head_width / 2], where and as the rows are. A layer is one rank's: it has one thread.
  void make_table(std::int64_t tokens, const Tensor& like) const {
    if (cosine_.defined() && cosine_.size(0) >= tokens && cosine_.device() == like.device() &&
        cosine_.scalar_type() == like.scalar_type())
      return;
    const Tensor frequencies =
        torch::tensor(rotary_.frequencies(), torch::kFloat64).to(torch::kFloat32);
    const Tensor angles = torch::arange(tokens, torch::kFloat32).unsqueeze(1) * frequencies;
    cosine_ = to_device(angles.cos().to(like.scalar_type()), like.device());
    sine_ = to_device(angles.sin().to(like.scalar_type()), like.device());
  }

  const RotaryOp rotary_;
  mutable Tensor cosine_, sine_;
};

}  // namespace

std::unique_ptr<Op> make_op(const RotaryOp& rotary) {
  return std::make_unique<Rotary>(rotary);
}

}  // namespace headrace
