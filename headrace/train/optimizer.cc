#include "headrace/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace headrace {

double learning_rate(const TrainConfig& config, std::int64_t step, std::int64_t steps) {
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

Optimizer::Optimizer(const TrainConfig& config, const std::vector<OwnedParameter*>& parameters)
    : config_(config) {
  groups_.resize(2);
  groups_[0].weight_decay = config.weight_decay;
  const bool adam = config.optimizer == "adamw";
  for (OwnedParameter* parameter : parameters) {
    const torch::Tensor& value = parameter->value;
    Group& group = groups_[value.dim() >= 2 ? 0 : 1];
    group.parameters.push_back(parameter);
    if (adam || config.momentum > 0) group.first.push_back(torch::zeros_like(value));
    if (!adam) continue;
    group.second.push_back(torch::zeros_like(value));
    group.steps.push_back(torch::zeros({}, value.options().requires_grad(false)));
  }
}

void Optimizer::step(double rate) {
  const torch::NoGradGuard no_grad;
  for (Group& group : groups_) {
    if (group.parameters.empty()) continue;
    if (config_.optimizer == "adamw")
      step_adamw(group, rate);
    else
      step_sgd(group, rate);
  }
  first_step_ = false;
}

void Optimizer::step_adamw(Group& group, double rate) {
  Tensors values, gradients;
  for (const OwnedParameter* parameter : group.parameters) {
    values.push_back(parameter->value.detach());
    gradients.push_back(parameter->gradient);
  }
  for (torch::Tensor& count : group.steps) count.add_(1);
  torch::_fused_adamw_(values, gradients, group.first, group.second,
                       /*max_exp_avg_sqs=*/{}, group.steps, rate, config_.beta1, config_.beta2,
                       group.weight_decay, config_.epsilon,
                       /*amsgrad=*/false,
                       /*maximize=*/false);
}

void Optimizer::step_sgd(Group& group, double rate) {
  Tensors values, gradients;
  for (const OwnedParameter* parameter : group.parameters) {
    values.push_back(parameter->value.detach());
    gradients.push_back(parameter->gradient);
  }
  torch::_fused_sgd_(values, gradients, group.first, group.weight_decay, config_.momentum, rate,
                     /*dampening=*/0,
                     /*nesterov=*/false,
                     /*maximize=*/false, first_step_);
}

}  // namespace headrace
