// A model is a list of layers. A LayerSpec says what a layer is called, what it holds and costs,
// and how to build it; only the rank that owns it does.
//
//   std::vector<LayerSpec> model = transformer(config);
//   std::unique_ptr<Layer> layer = model[3].build();
//   Tensors weights = initial_weights(model[3].parameters, {.seed = 1});
//   Tensors out = layer->forward({x}, {.key = 7}, {.weights = weights});
//
// A layer holds no weights: whoever runs it has them (runtime/weights.h) and says which it is to use.
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

#include <torch/types.h>

#include "headrace/model/weight_gradients.h"
#include "headrace/plan/layers.h"
#include "headrace/tensor/tensors.h"

namespace headrace {

// What a forward is told of the step, the same for all layers.
struct Context {
  bool training = true;
  std::int64_t step = 0;
  int microbatch = -1;
  // The key of this forward's random draws, already mixed from (run seed, step, microbatch).
  std::uint64_t key = 0;
  // For the last layer: [rows, context] int64, -100 where there is nothing to predict. Undefined:
  // it returns logits.
  torch::Tensor targets;
  // What the sum of the token losses is multiplied by: 1 / valid tokens of the global batch.
  double normaliser = 1;
  double backward_scale = 1;  // what the backward starts from, so that fp16 holds the gradients
  // Of matrix products: fp32, or bf16 or fp16 (precision.h).
  torch::ScalarType precision = torch::kFloat32;
};

// What a forward is told by the layer's stage.
struct StageContext {
  Tensors weights;  // in the order of the layer's parameters: leaves, with a gradient to add to
  // Forwards with the same number, not below 0, see the same weights.
  std::int64_t version = -1;
  bool recompute_attention = false;             // half.h
  WeightGradients* weight_gradients = nullptr;  // null: weight gradients are computed at once
};

class Layer {
 public:
  Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  virtual ~Layer() = default;

  // The last layer, given targets, returns the normalised loss to start the backward from (0-dim,
  // double) and, outside of training, its metrics' sums (metrics.h).
  virtual Tensors forward(const Tensors& inputs,
                          const Context& context,
                          const StageContext& stage) = 0;

  // True for what is not ours, a user's module: it leaves its gradients to autograd, so that a
  // split backward goes through its stage twice; its forward may write into its inputs, ask
  // whether they want a gradient, and change its state(); and it has its weights itself.
  virtual bool is_foreign() const { return false; }
  // Tensors that it keeps from one forward to the next, besides its weights.
  virtual Tensors state() const { return {}; }
};

struct BuildOptions {
  std::uint64_t seed = 0;
  torch::Device device = torch::kCPU;
};

// Leaves with the parameters' initial values, which depend on (seed, name) alone: they are drawn on
// the CPU.
Tensors initial_weights(const std::vector<ParameterSpec>& parameters, const BuildOptions& options);

// A layer's description, and how to build it.
struct LayerSpec : LayerInfo {
  std::function<std::unique_ptr<Layer>()> build;
};

// The descriptions alone.
std::vector<LayerInfo> layers_of(const std::vector<LayerSpec>& model);

}  // namespace headrace
