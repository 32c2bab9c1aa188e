#include "headrace/model/transformer.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/keyed.h"
#include "headrace/model/chunked_cross_entropy.h"
#include "headrace/model/half.h"
#include "headrace/model/metrics.h"
#include "headrace/model/operations.h"
#include "headrace/model/precision.h"
#include "headrace/plan/logits.h"

namespace headrace {
namespace {

using torch::Tensor;

// A layer's list of operations, and the casts of its matrices.
class Operations {
 public:
  Operations(const LayerInfo& info)
      : name_(info.name), list_(std::make_shared<OpList>(info.operations)) {
    for (const Operation& operation : info.operations)
      parameters_ += parameters_of(operation, "").size();
    casts_.resize(parameters_);
  }

  Tensor run(const Tensor& x,
             const Context& context,
             const StageContext& stage,
             HalfOptions options) {
    options.training = context.training;
    options.key = keyed(context.key, name_);
    options.sink = stage.weight_gradients;
    const Tensors weights(stage.weights.begin(),
                          stage.weights.begin() + static_cast<std::ptrdiff_t>(parameters_));
    Tensors casts(parameters_);
    for (std::size_t i = 0; i < parameters_; ++i)
      if (weights[i].dim() == 2)
        casts[i] = casts_[i].of(weights[i], context.precision, stage.version);
    return run_operations(x, list_, weights, casts, options);
  }

 private:
  std::string name_;
  std::shared_ptr<const OpList> list_;
  std::size_t parameters_ = 0;
  std::vector<Cast> casts_;
};

class EmbeddingLayer : public Layer {
 public:
  explicit EmbeddingLayer(const LayerInfo& info) {
    for (const Operation& operation : info.operations)
      if (const auto* dropout = std::get_if<DropoutOp>(&operation)) share_ = dropout->share;
  }

  Tensors forward(const Tensors& inputs,
                  const Context& context,
                  const StageContext& stage) override {
    const Tensor positions = stage.weights.size() > 1 ? stage.weights[1] : Tensor();
    const Tensor x = embed(inputs[0], stage.weights[0], positions, stage.weight_gradients);
    return {context.training && share_ > 0
                ? keyed_dropout(x, share_, keyed(context.key, "embedding"))
                : x};
  }

 private:
  double share_ = 0;
};

class HalfLayer : public Layer {
 public:
  explicit HalfLayer(const LayerInfo& info)
      : operations_(info), is_attention_(info.memory.is_attention) {}

  Tensors forward(const Tensors& inputs,
                  const Context& context,
                  const StageContext& stage) override {
    return {operations_.run(inputs[0], context, stage,
                            {.recompute = is_attention_ && stage.recompute_attention})};
  }

 private:
  Operations operations_;
  const bool is_attention_;
};

class HeadLayer : public Layer {
 public:
  explicit HeadLayer(const LayerInfo& info) : norm_(info) {}

  Tensors forward(const Tensors& inputs,
                  const Context& context,
                  const StageContext& stage) override {
    const Tensor normed = norm_.run(inputs[0], context, stage, {.residual = false});
    const Tensor& matrix = stage.weights.back();
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
  Operations norm_;
  Cast matrix_;
};

std::unique_ptr<Layer> build(const LayerInfo& info) {
  switch (info.kind) {
    case LayerKind::Embedding:
      return std::make_unique<EmbeddingLayer>(info);
    case LayerKind::Half:
      return std::make_unique<HalfLayer>(info);
    case LayerKind::Head:
      return std::make_unique<HeadLayer>(info);
    case LayerKind::Other:
      break;
  }
  throw std::logic_error("a transformer has no such layer");
}

}  // namespace

std::vector<LayerSpec> transformer(const TransformerConfig& config) {
  std::vector<LayerSpec> model;
  for (const LayerInfo& info : transformer_layers(config))
    model.push_back({info, [info] { return build(info); }});
  return model;
}

}  // namespace headrace
