#include "headrace/model/stage_module.h"

#include <utility>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {
namespace {

std::vector<Parameter> parameters_of(const torch::nn::AnyModule& module) {
  std::vector<Parameter> parameters;
  for (const auto& named : module.ptr()->named_parameters())
    parameters.push_back({{named.key(), named.value().sizes().vec()}, named.value()});
  return parameters;
}

class ModuleLayer : public Layer {
 public:
  ModuleLayer(torch::nn::AnyModule module, torch::Device device)
      : Layer(parameters_of(module)), module_(std::move(module)), device_(device) {}

  Tensors forward(const Tensors& inputs, const Context&) override {
    check(inputs.size() == 1, "a module takes one tensor, and is given ", inputs.size());
    return {module_.forward(inputs[0].to(device_))};
  }
  bool leaves_gradients_to_autograd() const override { return true; }

 private:
  torch::nn::AnyModule module_;
  torch::Device device_;
};

class LossLayer : public Layer {
 public:
  explicit LossLayer(const LossFunction& loss) : Layer({}), loss_(loss) {}

  Tensors forward(const Tensors& inputs, const Context& context) override {
    if (!context.targets.defined()) return inputs;
    const torch::Tensor loss = loss_(inputs[0], context.targets.to(inputs[0].device()));
    check(loss.dim() == 0, "the loss has ", loss.dim(), " dimensions; it must be a single number, ",
          "a mean over the rows");
    return {loss * context.loss_scale};
  }
  bool leaves_gradients_to_autograd() const override { return true; }

 private:
  const LossFunction& loss_;
};

}  // namespace

std::unique_ptr<Layer> module_layer(torch::nn::AnyModule module, torch::Device device) {
  return std::make_unique<ModuleLayer>(std::move(module), device);
}

std::unique_ptr<Layer> loss_layer(const LossFunction& loss) {
  return std::make_unique<LossLayer>(loss);
}

}  // namespace headrace
