#include "headrace/model/gpt.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/keyed.h"
#include "headrace/model/chunked_cross_entropy.h"
#include "headrace/model/halves.h"
#include "headrace/model/metrics.h"
#include "headrace/model/operations.h"
#include "headrace/model/precision.h"
#include "headrace/plan/logits.h"

namespace headrace {
namespace {

using torch::Tensor;

class EmbeddingLayer : public Layer {
 public:
  explicit EmbeddingLayer(double p) : p_(p) {}

  Tensors forward(const Tensors& inputs,
                  const Context& context,
                  const StageContext& stage) override {
    const Tensor x = embed(inputs[0], stage.weights[0], stage.weights[1], stage.weight_gradients);
    return {context.training && p_ > 0 ? keyed_dropout(x, p_, keyed(context.key, "embedding")) : x};
  }

 private:
  double p_;
};

// A block's attention (heads > 0) or MLP half.
class HalfLayer : public Layer {
 public:
  HalfLayer(std::string name, int heads, double p) : name_(std::move(name)), heads_(heads), p_(p) {}

  Tensors forward(const Tensors& inputs,
                  const Context& context,
                  const StageContext& stage) override {
    const HalfWeights weights{
        .norm_weight = stage.weights[0],
        .norm_bias = stage.weights[1],
        .first_weight = stage.weights[2],
        .first_bias = stage.weights[3],
        .second_weight = stage.weights[4],
        .second_bias = stage.weights[5],
        .first_cast = first_.of(stage.weights[2], context.precision, stage.version),
        .second_cast = second_.of(stage.weights[4], context.precision, stage.version)};
    const HalfOptions options{.heads = heads_,
                              .dropout = context.training ? p_ : 0,
                              .key = keyed(context.key, name_),
                              .sink = stage.weight_gradients,
                              .recompute = heads_ > 0 && stage.recompute_attention};
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
  Tensors forward(const Tensors& inputs,
                  const Context& context,
                  const StageContext& stage) override {
    const Tensor normed =
        torch::layer_norm(inputs[0], {inputs[0].size(-1)}, stage.weights[0], stage.weights[1]);
    const Tensor& matrix = stage.weights[2];
    if (!context.targets.defined()) return {torch::matmul(normed, matrix.t())};
    const Tensor& cast = matrix_.of(matrix, context.precision, stage.version);
    const std::vector<Metric> counted = context.training ? std::vector<Metric>() : metrics();
    const std::int64_t tokens = context.targets.numel();
    const std::int64_t at_once = logit_rows_at_once(tokens, matrix.size(0));
    if (at_once < tokens)
      return chunked_cross_entropy(normed, matrix, cast, context.targets, context.normaliser,
                                   counted, at_once);
    return linear_cross_entropy(normed, matrix, cast, context.targets, context.normaliser, counted,
                                stage.weight_gradients);
  }

 private:
  Cast matrix_;
};

std::unique_ptr<Layer> build(const LayerInfo& info, const GptConfig& config) {
  if (info.name == "head") return std::make_unique<HeadLayer>();
  if (info.block < 0) return std::make_unique<EmbeddingLayer>(config.dropout);
  return std::make_unique<HalfLayer>(info.name, info.memory.is_attention ? config.heads : 0,
                                     config.dropout);
}

}  // namespace

std::vector<LayerSpec> gpt(const GptConfig& config) {
  std::vector<LayerSpec> model;
  for (const LayerInfo& info : gpt_layers(config))
    model.push_back({info, [info, config] { return build(info, config); }});
  return model;
}

}  // namespace headrace
