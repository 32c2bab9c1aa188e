#include <utility>

#include "headrace/model/operations.h"
#include "headrace/model/ops/op.h"

namespace headrace {
namespace {

using torch::Tensor;

class Dropout : public Op {
 public:
  explicit Dropout(double share) : share_(share) {}

  Tensor forward(Tensor x,
                 const OpWeights& weights,
                 const OpContext& context,
                 Kept& kept) const override {
    if (!context.training) return x;
    x = x.to(context.stream.scalar_type());
    keep(x, weights, context, kept);
    return x.mul_(kept[0]);
  }

  void keep(Tensor, const OpWeights&, const OpContext& context, Kept& kept) const override {
    if (context.training) kept = {keyed_mask(context.stream, share_, context.key)};
  }

  Tensor backward(Tensor dy, const OpWeights&, const OpContext&, Kept& kept) const override {
    if (kept.empty()) return dy;
    Tensor dx = dy * kept[0];
    kept.clear();
    return dx;
  }

 private:
  const double share_;
};

}  // namespace

std::unique_ptr<Op> make_op(const DropoutOp& dropout) {
  return std::make_unique<Dropout>(dropout.share);
}

}  // namespace headrace
