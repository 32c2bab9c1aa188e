#include "headrace/model/chunked_cross_entropy.h"

#include <algorithm>

#include "headrace/model/precision.h"

namespace headrace {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct Chunk {
  std::int64_t first, rows;
  Tensor of(const Tensor& all) const { return all.narrow(0, first, rows); }
};

std::vector<Chunk> chunks_of(std::int64_t rows, std::int64_t rows_at_once) {
  std::vector<Chunk> chunks;
  for (std::int64_t first = 0; first < rows; first += rows_at_once)
    chunks.push_back({first, std::min(rows_at_once, rows - first)});
  return chunks;
}

class ChunkedCrossEntropy : public torch::autograd::Function<ChunkedCrossEntropy> {
 public:
  static variable_list forward(AutogradContext* context,
                               const Variable& x,
                               const Variable& weight,
                               const Tensor& matrix,
                               const Tensor& targets,
                               double scale,
                               const std::vector<Metric>& metrics,
                               std::int64_t rows_at_once) {
    const Direct direct;
    const Tensor rows = x.reshape({-1, x.size(-1)});
    const Tensor read = rows.to(matrix.scalar_type());
    const Tensor labels = targets.reshape(-1);
    const Tensor valid = labels.ne(-100);
    const Tensor index = labels.clamp_min(0).unsqueeze(1);
    const Tensor log_sum = torch::empty({rows.size(0)}, rows.options());
    const Tensor chosen = torch::empty_like(log_sum);
    variable_list results(1 + metrics.size());
    for (const Chunk& chunk : chunks_of(rows.size(0), rows_at_once)) {
      const Tensor logits = torch::mm(chunk.of(read), matrix.t()).to(rows.scalar_type());
      chunk.of(chosen).copy_(logits.gather(1, chunk.of(index)).squeeze(1));
      chunk.of(log_sum).copy_(torch::logsumexp(logits, 1));
      for (std::size_t i = 0; i < metrics.size(); ++i) {
        const Tensor count = metrics[i].count(logits, chunk.of(labels));
        results[i + 1] = chunk.first == 0 ? count : results[i + 1] + count;
      }
    }
    context->mark_non_differentiable({results.begin() + 1, results.end()});
    results[0] = (log_sum - chosen).mul_(valid).sum(torch::kFloat64).mul_(scale);
    context->save_for_backward({read, weight, matrix, index, log_sum.unsqueeze(1),
                                valid.to(x.scalar_type()).mul_(scale).unsqueeze(1)});
    context->saved_data["sizes"] = x.sizes().vec();
    context->saved_data["rows"] = rows_at_once;
    return results;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const Direct direct;
    const torch::NoGradGuard no_grad;
    const variable_list saved = context->get_saved_variables();
    const Tensor &read = saved[0], &weight = saved[1], &matrix = saved[2], &index = saved[3],
                 &log_sum = saved[4];
    const Tensor row_scale = saved[5] * gradients[0].to(saved[5].scalar_type());
    Tensor dx;
    if (context->needs_input_grad(0))
      dx = torch::empty({read.size(0), matrix.size(1)}, row_scale.options());
    for (const Chunk& chunk : chunks_of(read.size(0), context->saved_data["rows"].toInt())) {
      // d loss / d logits = probabilities − one at the target; the scale and the valid mask go on the small side.
      Tensor logits = torch::mm(chunk.of(read), matrix.t()).to(row_scale.scalar_type());
      logits.sub_(chunk.of(log_sum)).exp_();
      logits.scatter_add_(1, chunk.of(index), torch::full({chunk.rows, 1}, -1, logits.options()));
      const Tensor error = logits.to(matrix.scalar_type());
      if (weight.requires_grad())
        add_product(weight, error.t(),
                    (chunk.of(read) * chunk.of(row_scale)).to(error.scalar_type()));
      if (dx.defined())
        chunk.of(dx).copy_(
            torch::mm(error, matrix).to(row_scale.scalar_type()).mul_(chunk.of(row_scale)));
    }
    if (dx.defined()) dx = dx.view(context->saved_data["sizes"].toIntVector());
    return {dx, Variable(), Variable(), Variable(), Variable(), Variable(), Variable()};
  }
};

}  // namespace

Tensors chunked_cross_entropy(const Tensor& x,
                              const Tensor& weight,
                              const Tensor& matrix,
                              const Tensor& targets,
                              double scale,
                              const std::vector<Metric>& metrics,
                              std::int64_t rows_at_once) {
  return ChunkedCrossEntropy::apply(x, weight, matrix, targets, scale, metrics, rows_at_once);
}

}  // namespace headrace
