// A model is a list of layers. A LayerSpec says what a layer is called, what it holds and costs,
// and how to build it; only the rank that owns it does.
//
//   std::vector<LayerSpec> model = gpt(config);
//   std::unique_ptr<Layer> layer = model[3].build(options);
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
#include <vector>

#include <torch/torch.h>

namespace headrace {

using Tensors = std::vector<torch::Tensor>;

struct ParameterSpec {
  std::string name;
  std::vector<std::int64_t> shape;
  double mean = 0;       // of the normal distribution it starts from
  double deviation = 0;  // 0: starts as the constant `mean`
  std::int64_t elements() const;
};

struct Parameter {
  ParameterSpec spec;
  torch::Tensor value;  // a leaf; its gradient is accumulated in fp32
};

// Weight gradients put off from BackwardInput to BackwardWeight. Null in a Context: they are
// computed at once.
using WeightGradients = std::vector<std::function<void()>>;

// What a forward needs to know besides its input.
struct Context {
  bool training = true;
  // The key of this forward's random draws, already mixed from (run seed, step, microbatch).
  std::uint64_t key = 0;
  torch::Tensor targets;  // for the last layer; undefined: it returns logits
  double loss_scale =
      1;  // what the sum of token losses is multiplied by: 1 / valid tokens of the global batch
};

class Layer {
 public:
  Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  virtual ~Layer() = default;

  virtual Tensors forward(const Tensors& inputs, const Context& context) = 0;
  virtual std::vector<Parameter>& parameters() = 0;
};

struct BuildOptions {
  std::uint64_t seed = 0;
  torch::Device device = torch::kCPU;
};

// Estimates for one sequence (not one token), forward only.
struct LayerCost {
  double flops = 0;             // of matrix products; a backward costs twice this
  double activation_bytes = 0;  // held from forward to backward
  double boundary_bytes = 0;    // of the output
};

struct LayerSpec {
  std::string name;
  int block = -1;  // the transformer block it is part of; -1: embedding or head
  std::vector<ParameterSpec> parameters;
  LayerCost cost;
  std::function<std::unique_ptr<Layer>(const BuildOptions&)> build;
};

}  // namespace headrace
