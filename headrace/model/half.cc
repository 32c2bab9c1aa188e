#include "headrace/model/half.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <variant>

#include "headrace/model/precision.h"

namespace headrace {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// What a node keeps from its forward to its backward, which takes it: it is freed as soon as it was used.
struct Saved : torch::CustomClassHolder {
  std::shared_ptr<const OpList> operations;
  Tensors weights, casts;
  HalfOptions options;
  Tensor x;
  std::vector<Kept> kept;
};

Saved take(AutogradContext* context) {
  return std::move(
      *c10::static_intrusive_pointer_cast<Saved>(context->saved_data["saved"].toCapsule()));
}

Tensor rows_of(const Tensor& x) {
  return x.reshape({-1, x.size(-1)});
}

OpContext context_of(const Saved& saved) {
  return {.sequences = saved.x.size(0),
          .tokens = saved.x.size(1),
          .stream = rows_of(saved.x),
          .training = saved.options.training,
          .key = saved.options.key,
          .sink = saved.options.sink};
}

OpWeights weights_of(const Saved& saved, const OpList::Entry& entry) {
  return {saved.weights.data() + entry.first_parameter, saved.casts.data() + entry.first_parameter};
}

Tensor forward_of(Saved& saved) {
  const auto& entries = saved.operations->entries();
  const OpContext context = context_of(saved);
  saved.kept.resize(entries.size());
  Tensor y = context.stream;
  for (std::size_t i = 0; i < entries.size(); ++i)
    y = entries[i].op->forward(std::move(y), weights_of(saved, entries[i]), context, saved.kept[i]);
  y = y.to(saved.x.scalar_type());
  if (saved.options.residual) y.add_(context.stream);
  return y.view(saved.x.sizes());
}

// All but the last product, whose result no backward wants.
void keep_again(Saved& saved) {
  const auto& entries = saved.operations->entries();
  const OpContext context = context_of(saved);
  saved.kept.resize(entries.size());
  Tensor y = context.stream;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const OpWeights weights = weights_of(saved, entries[i]);
    if (i < saved.operations->last_linear())
      y = entries[i].op->forward(std::move(y), weights, context, saved.kept[i]);
    else
      entries[i].op->keep(y, weights, context, saved.kept[i]);
  }
}

class OperationsNode : public torch::autograd::Function<OperationsNode> {
 public:
  static Variable forward(AutogradContext* context,
                          const Variable& x,
                          const Variable& /*anything trained*/,
                          c10::intrusive_ptr<Saved> saved) {
    const Direct direct;
    saved->x = x;
    Tensor y = forward_of(*saved);
    if (saved->options.recompute) saved->kept = {};
    context->saved_data["saved"] = c10::IValue::make_capsule(std::move(saved));
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const Direct direct;
    Saved saved = take(context);
    if (saved.options.recompute) keep_again(saved);
    const auto& entries = saved.operations->entries();
    const OpContext of_all = context_of(saved);
    Tensor gradient = rows_of(gradients[0]);
    for (std::size_t i = entries.size(); i-- > 0;)
      gradient = entries[i].op->backward(std::move(gradient), weights_of(saved, entries[i]), of_all,
                                         saved.kept[i]);
    gradient = gradient.view(saved.x.sizes());
    if (saved.options.residual) gradient.add_(gradients[0]);
    return {gradient, Variable(), Variable()};
  }
};

}  // namespace

OpList::OpList(const std::vector<Operation>& operations) {
  std::size_t parameters = 0;
  for (const Operation& operation : operations) {
    if (std::holds_alternative<LinearOp>(operation)) last_linear_ = entries_.size();
    entries_.push_back(
        {std::visit([](const auto& kind) { return make_op(kind); }, operation), parameters});
    parameters += parameters_of(operation, "").size();
  }
}

Tensor run_operations(const Tensor& x,
                      const std::shared_ptr<const OpList>& operations,
                      const Tensors& weights,
                      const Tensors& casts,
                      const HalfOptions& options) {
  auto saved = c10::make_intrusive<Saved>();
  saved->operations = operations;
  saved->weights = weights;
  saved->casts = casts;
  saved->options = options;
  const auto trained =
      std::ranges::find_if(weights, [](const Tensor& weight) { return weight.requires_grad(); });
  return OperationsNode::apply(x, trained == weights.end() ? weights.front() : *trained,
                               std::move(saved));
}

}  // namespace headrace
