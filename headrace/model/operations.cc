#include "headrace/model/operations.h"

#include <cstdint>
#include <optional>
#include <utility>

#include "headrace/model/precision.h"

namespace headrace {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

Tensor rows_of(const Tensor& x) {
  return x.reshape({-1, x.size(-1)});
}

class EmbedFunction : public torch::autograd::Function<EmbedFunction> {
 public:
  static Variable forward(AutogradContext* context,
                          const Variable& ids,
                          const Variable& table,
                          const std::optional<Tensor>& positions,
                          WeightGradients* sink) {
    const Direct direct;
    context->save_for_backward({ids, table, positions.value_or(Tensor())});
    context->saved_data["sink"] = reinterpret_cast<std::int64_t>(sink);
    Tensor out =
        table.index_select(0, ids.reshape(-1)).view({ids.size(0), ids.size(1), table.size(1)});
    if (positions) out.add_(positions->slice(0, 0, ids.size(1)));
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    auto* sink = reinterpret_cast<WeightGradients*>(context->saved_data["sink"].toInt());
    add_weight_gradient(
        sink, [dy = gradients[0], ids = saved[0], table = saved[1], positions = saved[2]] {
          const torch::NoGradGuard no_grad;
          const Direct direct;
          if (table.requires_grad()) gradient_of(table).index_add_(0, ids.reshape(-1), rows_of(dy));
          if (positions.defined() && positions.requires_grad())
            gradient_of(positions).slice(0, 0, ids.size(1)).add_(dy.sum(0));
        });
    return {Variable(), Variable(), Variable(), Variable()};
  }
};

class CrossEntropyFunction : public torch::autograd::Function<CrossEntropyFunction> {
 public:
  static variable_list forward(AutogradContext* context,
                               const Variable& x,
                               const Variable& weight,
                               const Tensor& matrix,
                               const Tensor& targets,
                               double scale,
                               const std::vector<Metric>& metrics,
                               WeightGradients* sink) {
    const Direct direct;
    const Tensor read = rows_of(x).to(matrix.scalar_type());
    const Tensor labels = targets.reshape(-1);
    const Tensor valid = labels.ne(-100);
    const Tensor index = labels.clamp_min(0).unsqueeze(1);
    Tensor logits = torch::mm(read, matrix.t()).to(x.scalar_type());
    const Tensor chosen = logits.gather(1, index).squeeze(1);
    const Tensor highest = logits.amax(1);
    variable_list results = {Tensor()};
    for (const Metric& metric : metrics) results.push_back(metric.count(logits, labels));
    // From here on the buffer holds probabilities. The likeliest has exp(0) / sum, which gives the
    // sum back.
    torch::softmax_out(logits, logits, 1);
    const Tensor log_sum = logits.amax(1).log().neg_();
    const Tensor losses = (log_sum + highest - chosen).mul_(valid);
    context->mark_non_differentiable({results.begin() + 1, results.end()});
    results[0] = losses.sum(torch::kFloat64).mul_(scale);
    // d loss / d logits = probabilities − one at the target; the scale and the valid mask go on the
    // small side.
    logits.scatter_add_(1, index, torch::full_like(chosen, -1).unsqueeze(1));
    context->save_for_backward(
        {read, weight, matrix, logits, valid.to(x.scalar_type()).mul_(scale).unsqueeze(1)});
    context->saved_data["sink"] = reinterpret_cast<std::int64_t>(sink);
    context->saved_data["sizes"] = x.sizes().vec();
    return results;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const Direct direct;
    const variable_list saved = context->get_saved_variables();
    const Tensor& read = saved[0];
    const Tensor& weight = saved[1];
    const Tensor& matrix = saved[2];
    const Tensor error = saved[3].to(read.scalar_type());
    auto* sink = reinterpret_cast<WeightGradients*>(context->saved_data["sink"].toInt());
    const Tensor row_scale = saved[4] * gradients[0].to(saved[4].scalar_type());
    if (weight.requires_grad()) {
      add_weight_gradient(sink, [error, read, weight, row_scale] {
        const torch::NoGradGuard no_grad;
        const Direct again;  // this may be another time
        add_product(weight, error.t(), (read * row_scale).to(error.scalar_type()));
      });
    }
    Tensor dx;
    if (context->needs_input_grad(0))
      dx = torch::mm(error, matrix)
               .to(row_scale.scalar_type())
               .mul_(row_scale)
               .view(context->saved_data["sizes"].toIntVector());
    return {dx, Variable(), Variable(), Variable(), Variable(), Variable(), Variable()};
  }
};

}  // namespace

Tensor embed(const Tensor& ids,
             const Tensor& table,
             const Tensor& positions,
             WeightGradients* weight_gradients) {
  return EmbedFunction::apply(
      ids, table, positions.defined() ? std::optional(positions) : std::nullopt, weight_gradients);
}

Tensors linear_cross_entropy(const Tensor& x,
                             const Tensor& weight,
                             const Tensor& matrix,
                             const Tensor& targets,
                             double scale,
                             const std::vector<Metric>& metrics,
                             WeightGradients* weight_gradients) {
  return CrossEntropyFunction::apply(x, weight, matrix, targets, scale, metrics, weight_gradients);
}

Tensor keyed_mask(const Tensor& x, double p, std::uint64_t key) {
  // A generator of our own with this draw's key: the default one belongs to all threads of the
  // process.
  at::Generator generator = at::globalContext().defaultGenerator(x.device()).clone();
  generator.set_current_seed(key);
  const torch::NoGradGuard no_grad;
  return torch::empty_like(x).bernoulli_(1 - p, generator).div_(1 - p);
}

Tensor keyed_dropout(const Tensor& x, double p, std::uint64_t key) {
  return x * keyed_mask(x, p, key);
}

}  // namespace headrace
