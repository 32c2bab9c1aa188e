#include <array>
#include <utility>

#include "headrace/model/ops/attend.h"
#include "headrace/model/ops/op.h"

namespace headrace {
namespace {

using torch::Tensor;

class Attention : public Op {
 public:
  explicit Attention(const AttentionOp& attention) : attention_(attention) {}

  Tensor forward(Tensor x, const OpWeights&, const OpContext& context, Kept& kept) const override {
    const auto [q, k, v] = heads_of(x, context);
    const Attended done = attend(q, k, v);
    kept = {std::move(x), done.result, done.log_sum, done.seed, done.offset};
    return rows_of(done.result);
  }

  Tensor backward(Tensor dy,
                  const OpWeights&,
                  const OpContext& context,
                  Kept& kept) const override {
    const auto [q, k, v] = heads_of(kept[0], context);
    const Tensor gradient =
        dy.view({context.sequences, context.tokens, attention_.heads, attention_.head_width})
            .transpose(1, 2);
    const auto [dq, dk, dv] =
        attend_backward(gradient, q, k, v, {kept[1], kept[2], kept[3], kept[4]});
    kept.clear();
    return torch::cat({rows_of(dq), rows_of(summed(dk)), rows_of(summed(dv))}, 1);
  }

 private:
  std::int64_t shared_by() const { return attention_.heads / attention_.kv_heads; }

  // Queries, keys and values as [sequences, heads, tokens, head_width] views of the rows; keys and values a copy for
  // each head where heads share them.
  std::array<Tensor, 3> heads_of(const Tensor& rows, const OpContext& context) const {
    const std::int64_t each = attention_.head_width, all = rows.size(1);
    const auto part = [&](std::int64_t first, std::int64_t heads) {
      return rows.as_strided({context.sequences, heads, context.tokens, each},
                             {context.tokens * all, each, all, 1},
                             rows.storage_offset() + first * each);
    };
    const Tensor k = part(attention_.heads, attention_.kv_heads),
                 v = part(attention_.heads + attention_.kv_heads, attention_.kv_heads);
    return {part(0, attention_.heads), repeated(k), repeated(v)};
  }

  Tensor repeated(const Tensor& heads) const {
    if (shared_by() == 1) return heads;
    return heads.unsqueeze(2)
        .expand({-1, -1, shared_by(), -1, -1})
        .reshape({heads.size(0), attention_.heads, heads.size(2), heads.size(3)});
  }

  Tensor summed(const Tensor& gradient) const {
    return shared_by() == 1 ? gradient
                            : gradient.unflatten(1, {attention_.kv_heads, shared_by()}).sum(2);
  }

  static Tensor rows_of(const Tensor& heads) {
    return heads.transpose(1, 2).reshape(
        {heads.size(0) * heads.size(2), heads.size(1) * heads.size(3)});
  }

  const AttentionOp attention_;
};

}  // namespace

std::unique_ptr<Op> make_op(const AttentionOp& attention) {
  return std::make_unique<Attention>(attention);
}

}  // namespace headrace
