#include "headrace/model/gpt.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/keyed.h"
#include "headrace/model/halves.h"
#include "headrace/model/operations.h"
#include "headrace/model/precision.h"

namespace headrace {
namespace {

using torch::Tensor;

class EmbeddingLayer : public Layer {
 public:
  EmbeddingLayer(std::vector<Parameter> parameters, double p)
      : Layer(std::move(parameters)), p_(p) {}

  Tensors forward(const Tensors& inputs, const Context& context) override {
    const Tensor x = embed(inputs[0], parameter(0), parameter(1), context.weight_gradients);
    return {context.training && p_ > 0 ? keyed_dropout(x, p_, keyed(context.key, "embedding")) : x};
  }

 private:
  double p_;
};

// A block's attention (heads > 0) or MLP half.
class HalfLayer : public Layer {
 public:
  HalfLayer(std::vector<Parameter> parameters, std::string name, int heads, double p)
      : Layer(std::move(parameters)), name_(std::move(name)), heads_(heads), p_(p) {}

  Tensors forward(const Tensors& inputs, const Context& context) override {
    const HalfWeights weights{
        .norm_weight = parameter(0),
        .norm_bias = parameter(1),
        .first_weight = parameter(2),
        .first_bias = parameter(3),
        .second_weight = parameter(4),
        .second_bias = parameter(5),
        .first_cast = first_.of(parameter(2), context.precision, context.weights),
        .second_cast = second_.of(parameter(4), context.precision, context.weights)};
    const HalfOptions options{.heads = heads_,
                              .dropout = context.training ? p_ : 0,
                              .key = keyed(context.key, name_),
                              .sink = context.weight_gradients,
                              .recompute = heads_ > 0 && context.recompute_attention};
    return {heads_ > 0 ? attention_half(inputs[0], weights, options)
                       : mlp_half(inputs[0], weights, options)};
  }

 private:
  std::string name_;
  int heads_;
  double p_;
  Cast first_, second_;
};

class HeadLayer : public Layer {
 public:
  using Layer::Layer;

  Tensors forward(const Tensors& inputs, const Context& context) override {
    const Tensor normed =
        torch::layer_norm(inputs[0], {inputs[0].size(-1)}, parameter(0), parameter(1));
    if (!context.targets.defined()) return {torch::matmul(normed, parameter(2).t())};
    const HeadResult result = linear_cross_entropy(
        normed, parameter(2), matrix_.of(parameter(2), context.precision, context.weights),
        context.targets, context.loss_scale, !context.training, context.weight_gradients);
    return {result.loss, result.correct};
  }

 private:
  Cast matrix_;
};

std::unique_ptr<Layer> build(const LayerInfo& info,
                             const GptConfig& config,
                             const BuildOptions& options) {
  std::vector<Parameter> parameters = make_parameters(info.parameters, options);
  if (info.name == "head") return std::make_unique<HeadLayer>(std::move(parameters));
  if (info.block < 0)
    return std::make_unique<EmbeddingLayer>(std::move(parameters), config.dropout);
  return std::make_unique<HalfLayer>(std::move(parameters), info.name,
                                     info.memory.is_attention ? config.heads : 0, config.dropout);
}

}  // namespace

std::vector<LayerSpec> gpt(const GptConfig& config) {
  std::vector<LayerSpec> model;
  for (const LayerInfo& info : gpt_layers(config))
    model.push_back({info, [info, config](const BuildOptions& options) {
                       return build(info, config, options);
                     }});
  return model;
}

}  // namespace headrace
