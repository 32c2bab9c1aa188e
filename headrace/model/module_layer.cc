#include "headrace/model/module_layer.h"

#include <charconv>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/keyed.h"
#include "headrace/base/text.h"
#include "headrace/model/draws.h"
#include "headrace/tensor/streams.h"

namespace headrace {
namespace {

// How many tensors a module's forward takes, without those that have a default. An AnyModule tells
// it only where it is given a wrong number, before it calls the module.
std::size_t arity_of(torch::nn::AnyModule& module) {
  try {
    module.forward<torch::Tensor>();
  } catch (const c10::Error& error) {
    // "…'s forward() method expects 2 argument(s), but received 0", or "expects at least 2".
    const std::string text = error.what_without_backtrace();
    const std::size_t number = text.find_first_of("0123456789", text.find(" method expects "));
    std::size_t arity = 1;
    if (number != std::string::npos)
      std::from_chars(text.data() + number, text.data() + text.size(), arity);
    return arity;
  }
  return 1;
}

class ForeignLayer : public Layer {
 public:
  explicit ForeignLayer(const ModulePlace& place) : place_(place) {}
  bool is_foreign() const override { return true; }

  Tensors forward(const Tensors& inputs, const Context& context, const StageContext&) override {
    Draws draws(keyed(context.key, place_.index), place_.device);
    Tensors outputs = compute(inputs, context);
    if (place_.drew != nullptr && draws.any()) *place_.drew = true;
    return outputs;
  }

 protected:
  virtual Tensors compute(const Tensors& inputs, const Context& context) = 0;

  const ModulePlace place_;
};

class ModuleLayer : public ForeignLayer {
 public:
  ModuleLayer(torch::nn::AnyModule module, const ModulePlace& place)
      : ForeignLayer(place), module_(std::move(module)), arity_(arity_of(module_)) {
    check_usage(arity_ <= kModuleTensors, "module ", module_.ptr()->name(), " takes ", arity_,
                " tensors; at most ", kModuleTensors, " are passed");
  }

  Tensors state() const override {
    Tensors defined = module_.ptr()->buffers();
    std::erase_if(defined, [](const torch::Tensor& buffer) { return !buffer.defined(); });
    return defined;
  }

 protected:
  Tensors compute(const Tensors& inputs, const Context&) override {
    check(inputs.size() >= arity_, "module ", module_.ptr()->name(), " takes ", arity_,
          " tensors, and there are ", inputs.size(), " with the side inputs");
    Tensors outputs = inputs;
    for (torch::Tensor& each : outputs)
      each = each.requires_grad() ? each.to(place_.device) : to_device(each, place_.device);
    outputs[0] = arity_ == 1   ? module_.forward(outputs[0])
                 : arity_ == 2 ? module_.forward(outputs[0], outputs[1])
                 : arity_ == 3 ? module_.forward(outputs[0], outputs[1], outputs[2])
                               : module_.forward(outputs[0], outputs[1], outputs[2], outputs[3]);
    return outputs;
  }

 private:
  torch::nn::AnyModule module_;
  const std::size_t arity_;
};

class LossLayer : public ForeignLayer {
 public:
  LossLayer(const LossFunction& loss, const ModulePlace& place)
      : ForeignLayer(place), loss_(loss) {}

 protected:
  Tensors compute(const Tensors& inputs, const Context& context) override {
    if (!context.targets.defined()) return {inputs[0]};
    const torch::Tensor loss = loss_(inputs[0], to_device(context.targets, inputs[0].device()));
    check(loss.dim() == 0, "the loss has ", loss.dim(), " dimensions; it must be a single number, ",
          "a mean over the rows or a sum");
    const auto of_nothing = [&] {
      return loss.detach().isnan().logical_and(inputs[0].detach().isfinite().all());
    };
    if (!loss.is_cpu()) return {loss * context.normaliser, of_nothing()};
    if (std::isnan(loss.item<double>()) && of_nothing().item<bool>())
      refuse_mean_of_nothing(context.microbatch);
    return {loss * context.normaliser};
  }

 private:
  const LossFunction& loss_;
};

}  // namespace

std::unique_ptr<Layer> module_layer(torch::nn::AnyModule module, const ModulePlace& place) {
  return std::make_unique<ModuleLayer>(std::move(module), place);
}

Tensors module_weights(const torch::nn::AnyModule& module) {
  return module.ptr()->parameters();
}

void refuse_mean_of_nothing(int microbatch) {
  throw Error(
      cat("the loss of microbatch ", microbatch, " is not a number, but the model's output is: a ",
          "mean over labels of which none counts there? Give step() a sum of losses, and as its ",
          "divisor how many labels of the batch count"));
}

std::unique_ptr<Layer> loss_layer(const LossFunction& loss, const ModulePlace& place) {
  return std::make_unique<LossLayer>(loss, place);
}

}  // namespace headrace
