#include <utility>

#include "headrace/model/ops/op.h"
#include "headrace/model/ops/rms_norm.h"

namespace headrace {
namespace {

using torch::Tensor;

class HeadNorm : public Op {
 public:
  explicit HeadNorm(const HeadNormOp& norm) : norm_(norm) {}

  Tensor forward(Tensor x, const OpWeights& weights, const OpContext&, Kept& kept) const override {
    Tensor place = heads_of(x);
    Tensor read = place.clone(at::MemoryFormat::Contiguous);
    const Tensor precise = read.to(torch::kFloat32);
    Tensor scale = rms_scale(precise, norm_.epsilon);
    place.copy_(rms_norm(precise, scale, weights.parameters[0]));
    kept = {std::move(read), std::move(scale)};
    return x;
  }

  Tensor backward(Tensor dy,
                  const OpWeights& weights,
                  const OpContext&,
                  Kept& kept) const override {
    Tensor place = heads_of(dy);
    place.copy_(rms_norm_backward(place.to(torch::kFloat32).contiguous(),
                                  kept[0].to(torch::kFloat32), kept[1], weights.parameters[0]));
    kept.clear();
    return dy;
  }

 private:
  // [rows, heads, head_width], in place.
  Tensor heads_of(const Tensor& rows) const {
    return rows.narrow(1, norm_.first_head * norm_.head_width, norm_.heads * norm_.head_width)
        .unflatten(1, {norm_.heads, norm_.head_width});
  }

  const HeadNormOp norm_;
};

}  // namespace

std::unique_ptr<Op> make_op(const HeadNormOp& norm) {
  return std::make_unique<HeadNorm>(norm);
}

}  // namespace headrace
