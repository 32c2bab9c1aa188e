#include "headrace/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace headrace {

double learning_rate(const OptimizerConfig& config, std::int64_t step, std::int64_t steps) {
  const std::int64_t peak =
      std::max<std::int64_t>(config.warmup, 1) - 1;  // the step that has all of it
  const std::int64_t last = steps - 1;
  if (step < peak)
    return config.learning_rate * static_cast<double>(step + 1) / static_cast<double>(peak + 1);
  if (config.decay == "constant" || last <= peak) return config.learning_rate;
  const double done = static_cast<double>(step - peak) / static_cast<double>(last - peak);
  const double share = 0.5 * (1 + std::cos(std::numbers::pi * done));
  return config.minimum_learning_rate +
         share * (config.learning_rate - config.minimum_learning_rate);
}

namespace {

Tensors select(const Tensors& all, const std::vector<std::size_t>& members) {
  Tensors some;
  if (all.empty()) return some;
  for (const std::size_t i : members) some.push_back(all[i]);
  return some;
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, const Tensors& values) : config_(config) {
  const torch::NoGradGuard no_grad;
  groups_.resize(2);
  groups_[0].weight_decay = config.weight_decay;
  const bool adam = config.kind == "adamw";
  for (std::size_t i = 0; i < values.size(); ++i) {
    const torch::Tensor& value = values[i];
    groups_[value.dim() >= 2 ? 0 : 1].members.push_back(i);
    if (adam || config.momentum > 0) first_.push_back(torch::zeros_like(value));
    if (!adam) continue;
    second_.push_back(torch::zeros_like(value));
    counts_.push_back(torch::zeros({}, value.options().requires_grad(false)));
  }
}

void Optimizer::set_updates(std::int64_t updates) {
  updates_ = updates;
  for (torch::Tensor& count : counts_) count.fill_(updates);
}

void Optimizer::step(double rate, const Tensors& values, const Tensors& gradients) {
  const torch::NoGradGuard no_grad;
  for (const Group& group : groups_) {
    if (group.members.empty()) continue;
    const Tensors of_group = select(values, group.members);
    const Tensors by = select(gradients, group.members);
    if (config_.kind == "adamw")
      step_adamw(group, rate, of_group, by);
    else
      step_sgd(group, rate, of_group, by);
  }
  ++updates_;
}

void Optimizer::step_adamw(const Group& group,
                           double rate,
                           const Tensors& values,
                           const Tensors& gradients) {
  Tensors counts = select(counts_, group.members);
  torch::_foreach_add_(counts, 1);
  torch::_fused_adamw_(values, gradients, select(first_, group.members),
                       select(second_, group.members),
                       /*max_exp_avg_sqs=*/{}, counts, rate, config_.beta1, config_.beta2,
                       group.weight_decay, config_.epsilon,
                       /*amsgrad=*/false,
                       /*maximize=*/false);
}

void Optimizer::step_sgd(const Group& group,
                         double rate,
                         const Tensors& values,
                         const Tensors& gradients) {
  torch::_fused_sgd_(values, gradients, select(first_, group.members), group.weight_decay,
                     config_.momentum, rate,
                     /*dampening=*/0,
                     /*nesterov=*/false,
                     /*maximize=*/false, updates_ == 0);
}

}  // namespace headrace
