// A user's own module as a layer: autograd gives its gradients.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include <torch/nn/modules/container/any.h>

#include "headrace/model/layer.h"

namespace headrace {

// The first tensor goes through the module. The others are side inputs: a module whose forward
// takes n tensors is given the first n − 1 of them (n at most kModuleTensors), and all go on to the
// next layer as they came. Inputs are brought to `device`, where the module must be.
constexpr std::size_t kModuleTensors = 4;
std::unique_ptr<Layer> module_layer(torch::nn::AnyModule module, torch::Device device);

// (output of the model, targets) → a scalar that is a mean over their rows.
using LossFunction = std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>;

// The loss as a model's last layer, scaled by the context's loss_scale; gives what it is given
// where there are no targets. `loss` is looked up at each call: it may change between steps.
std::unique_ptr<Layer> loss_layer(const LossFunction& loss);

}  // namespace headrace
