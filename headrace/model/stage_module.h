// A user's own module as a layer: autograd gives its gradients.
#pragma once

#include <functional>
#include <memory>

#include <torch/nn/modules/container/any.h>

#include "headrace/model/layer.h"

namespace headrace {

// Takes and gives one tensor. Its inputs are brought to `device`, where the module must be.
std::unique_ptr<Layer> module_layer(torch::nn::AnyModule module, torch::Device device);

// (output of the model, targets) → a scalar that is a mean over their rows.
using LossFunction = std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>;

// The loss as a model's last layer, scaled by the context's loss_scale; gives what it is given
// where there are no targets. `loss` is looked up at each call: it may change between steps.
std::unique_ptr<Layer> loss_layer(const LossFunction& loss);

}  // namespace headrace
