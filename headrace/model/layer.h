// A model is a list of layers. A LayerSpec says what a layer is called, what it holds and costs,
// and how to build it; only the rank that owns it does.
//
//   std::vector<LayerSpec> model = gpt(config);
//   std::unique_ptr<Layer> layer = model[3].build({.seed = 1});
//
// Parameters have global names ("blocks.3.mlp.up.weight"), which do not depend on the split, and
// their initial values depend on (seed, name) alone. A name that stands in several specs is a
// shared parameter: each owner has its own gradient, and the runtime adds them up in the order of
// the layers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "headrace/model/weight_gradients.h"
#include "headrace/plan/layers.h"
#include "headrace/tensor/tensors.h"

namespace headrace {

struct Parameter {
  ParameterSpec spec;
  torch::Tensor value;  // a leaf; its gradient is accumulated in place
};

// What a forward needs to know besides its input.
struct Context {
  bool training = true;
  int microbatch = -1;
  // The key of this forward's random draws, already mixed from (run seed, step, microbatch).
  std::uint64_t key = 0;
  // For the last layer: [rows, context] int64, -100 where there is nothing to predict. Undefined:
  // it returns logits.
  torch::Tensor targets;
  double loss_scale = 1;      // 1 / valid tokens of the global batch
  double gradient_scale = 1;  // what the backward starts from, so that fp16 holds the gradients
  // Of matrix products: fp32, or bf16 or fp16 (precision.h).
  torch::ScalarType precision = torch::kFloat32;
  // Forwards with the same number, not below 0, see the same weights.
  std::int64_t weights = -1;
  bool recompute_attention = false;             // halves.h
  WeightGradients* weight_gradients = nullptr;  // null: weight gradients are computed at once
};

class Layer {
 public:
  explicit Layer(std::vector<Parameter> parameters) : parameters_(std::move(parameters)) {}
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  virtual ~Layer() = default;

  // The last layer, given targets, returns {loss, correct}: the scaled loss to start the backward
  // from (0-dim, double) and, outside training, how many tokens were predicted right (0-dim,
  // int64).
  virtual Tensors forward(const Tensors& inputs, const Context& context) = 0;

  // True for what is not ours, a user's module: it leaves its gradients to autograd, so that a
  // split backward goes through its stage twice; and its forward may write into its inputs, ask
  // whether they want a gradient, and change its state().
  virtual bool is_foreign() const { return false; }
  // Tensors that it keeps from one forward to the next, besides its parameters.
  virtual std::vector<torch::Tensor> state() const { return {}; }

  std::vector<Parameter>& parameters() { return parameters_; }

 protected:
  torch::Tensor& parameter(std::size_t index) { return parameters_[index].value; }

 private:
  std::vector<Parameter> parameters_;
};

struct BuildOptions {
  std::uint64_t seed = 0;
  torch::Device device = torch::kCPU;
};

// Builds the parameters with their initial values, which depend on (seed, name) alone: they are
// drawn on the CPU.
std::vector<Parameter> make_parameters(const std::vector<ParameterSpec>& specs,
                                       const BuildOptions& options);

// A layer's description, and how to build it.
struct LayerSpec : LayerInfo {
  std::function<std::unique_ptr<Layer>(const BuildOptions&)> build;
};

// The descriptions alone.
std::vector<LayerInfo> layers_of(const std::vector<LayerSpec>& model);

}  // namespace headrace
