#include <utility>

#include "headrace/model/ops/activate.h"
#include "headrace/model/ops/op.h"

namespace headrace {
namespace {

using torch::Tensor;

// The activation is computed again in the backward: it costs less than to keep it.
class Gated : public Op {
 public:
  explicit Gated(const GatedOp& gated) : gated_(gated) {}

  Tensor forward(Tensor x, const OpWeights&, const OpContext&, Kept& kept) const override {
    Tensor y = activate(gated_.kind, gate(x)).mul_(up(x));
    kept = {std::move(x)};
    return y;
  }

  Tensor backward(Tensor dy, const OpWeights&, const OpContext&, Kept& kept) const override {
    const Tensor x = kept[0];
    kept.clear();
    Tensor dx = torch::empty_like(x);
    gate(dx).copy_(activate_backward(gated_.kind, dy * up(x), gate(x)));
    Tensor d_up = up(dx);
    torch::mul_out(d_up, dy, activate(gated_.kind, gate(x)));
    return dx;
  }

 private:
  Tensor gate(const Tensor& x) const { return x.narrow(1, 0, gated_.width); }
  Tensor up(const Tensor& x) const { return x.narrow(1, gated_.width, gated_.width); }

  const GatedOp gated_;
};

}  // namespace

std::unique_ptr<Op> make_op(const GatedOp& gated) {
  return std::make_unique<Gated>(gated);
}

}  // namespace headrace
