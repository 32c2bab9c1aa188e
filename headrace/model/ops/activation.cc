#include <utility>

#include "headrace/model/ops/activate.h"
#include "headrace/model/ops/op.h"

namespace headrace {
namespace {

using torch::Tensor;

class Activate : public Op {
 public:
  explicit Activate(Activation kind) : kind_(kind) {}

  Tensor forward(Tensor x, const OpWeights&, const OpContext&, Kept& kept) const override {
    Tensor y = activate(kind_, x);
    kept = {std::move(x)};
    return y;
  }

  Tensor backward(Tensor dy, const OpWeights&, const OpContext&, Kept& kept) const override {
    Tensor dx = activate_backward(kind_, dy, kept[0]);
    kept.clear();
    return dx;
  }

 private:
  const Activation kind_;
};

}  // namespace

std::unique_ptr<Op> make_op(const ActivationOp& activation) {
  return std::make_unique<Activate>(activation.kind);
}

}  // namespace headrace
