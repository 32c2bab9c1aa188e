// A user's own module as a layer: autograd gives its gradients.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>

#include <torch/nn/modules/container/any.h>

#include "headrace/model/layer.h"

namespace headrace {

// What a module is told of its place in a model.
struct ModulePlace {
  torch::Device device = torch::kCPU;  // where it must be; inputs are brought there
  int index = 0;                       // keys its draws, so that they do not depend on the cut
  std::atomic<bool>* drew = nullptr;   // set where a forward draws anything; may be null
};

// The first tensor goes through the module. The others are side inputs: a module whose forward
// takes n tensors is given the first n − 1 of them (n at most kModuleTensors), and all go on to the
// next layer as they came. Its draws from torch's default generators are keyed by the context's key
// and its index (draws.h).
constexpr std::size_t kModuleTensors = 4;
std::unique_ptr<Layer> module_layer(torch::nn::AnyModule module, const ModulePlace& place);
// The module's own weights, which its stage is to know of.
Tensors module_weights(const torch::nn::AnyModule& module);

// (output of the model, targets) → a scalar: a mean over their rows, or a sum.
using LossFunction = std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>;

// The loss as a model's last layer, times the context's normaliser; gives what it is given where
// there are no targets. `loss` is looked up at each call: it may change between steps. Its forward
// throws where the loss is not a number and what it is of is: a mean over nothing. On a device, where
// asking would wait for it, it gives whether that is so as a second output (0-dim), for refuse_mean_of_nothing.
std::unique_ptr<Layer> loss_layer(const LossFunction& loss, const ModulePlace& place);

[[noreturn]] void refuse_mean_of_nothing(int microbatch);

}  // namespace headrace
