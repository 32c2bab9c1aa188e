#include <cstddef>
#include <utility>

#include "headrace/model/ops/op.h"

namespace headrace {
namespace {

using torch::Tensor;

class Linear : public Op {
 public:
  explicit Linear(const LinearOp& linear) : linear_(linear) {}

  Tensor forward(Tensor x, const OpWeights& weights, const OpContext&, Kept& kept) const override {
    x = x.to(weights.casts[0].scalar_type());
    Tensor y = linear_.parts.size() == 1 ? product(x, weights) : products(x, weights);
    kept = {std::move(x)};
    return y;
  }

  void keep(Tensor x, const OpWeights& weights, const OpContext&, Kept& kept) const override {
    kept = {x.to(weights.casts[0].scalar_type())};
  }

  Tensor backward(Tensor dy,
                  const OpWeights& weights,
                  const OpContext& context,
                  Kept& kept) const override {
    const Tensor x = kept[0];
    kept.clear();
    dy = dy.to(x.scalar_type());
    Tensor dx;
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < linear_.parts.size(); ++i) {
      const std::int64_t out = linear_.parts[i].out;
      const Tensor part = linear_.parts.size() == 1 ? dy : dy.narrow(1, begin, out);
      add_linear_gradients(context.sink, part, x, weights.parameters[stride() * i],
                           linear_.has_bias ? weights.parameters[stride() * i + 1] : Tensor());
      const Tensor& matrix = weights.casts[stride() * i];
      if (i == 0)
        dx = torch::mm(part, matrix);
      else
        dx.addmm_(part, matrix);
      begin += out;
    }
    return dx;
  }

 private:
  std::size_t stride() const { return linear_.has_bias ? 2 : 1; }

  Tensor product(const Tensor& x, const OpWeights& weights) const {
    const Tensor matrix = weights.casts[0].t();
    return linear_.has_bias ? torch::addmm(weights.parameters[1].to(x.scalar_type()), x, matrix)
                            : torch::mm(x, matrix);
  }

  // Each into its columns of one result.
  Tensor products(const Tensor& x, const OpWeights& weights) const {
    Tensor y = torch::empty({x.size(0), linear_.out()}, x.options());
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < linear_.parts.size(); ++i) {
      Tensor part = y.narrow(1, begin, linear_.parts[i].out);
      const Tensor matrix = weights.casts[stride() * i].t();
      if (linear_.has_bias)
        torch::addmm_out(part, weights.parameters[stride() * i + 1].to(x.scalar_type()), x, matrix);
      else
        torch::mm_out(part, x, matrix);
      begin += linear_.parts[i].out;
    }
    return y;
  }

  const LinearOp linear_;
};

}  // namespace

std::unique_ptr<Op> make_op(const LinearOp& linear) {
  return std::make_unique<Linear>(linear);
}

}  // namespace headrace
