#include "headrace/model/gpt.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/keyed.h"
#include "headrace/model/halves.h"
#include "headrace/model/metrics.h"
#include "headrace/model/operations.h"
#include "headrace/model/precision.h"

namespace headrace {
namespace {

using torch::Tensor;

constexpr double kInitialDeviation = 0.02;  // GPT-2's
constexpr double kFloatBytes = 4;

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
    return linear_cross_entropy(
        normed, matrix, matrix_.of(matrix, context.precision, stage.version), context.targets,
        context.normaliser, context.training ? std::vector<Metric>() : metrics(),
        stage.weight_gradients);
  }

 private:
  Cast matrix_;
};

void require_sizes(const GptConfig& config) {
  const auto positive = [](int value, const char* name) {
    check_usage(value >= 1, "model.", name, " is ", value, "; it must be 1 or more");
  };
  positive(config.layers, "layers");
  positive(config.width, "width");
  positive(config.heads, "heads");
  positive(config.context, "context");
  positive(config.vocabulary, "vocabulary");
  check_usage(config.width % config.heads == 0, "model.width ", config.width,
              " is not a multiple of model.heads ", config.heads,
              ": each head takes width / heads; the nearest width that fits is ",
              (config.width / config.heads + 1) * config.heads);
  check_usage(config.dropout >= 0 && config.dropout < 1, "model.dropout is ", config.dropout,
              "; it must be at least 0 and below 1");
}

// A layer's two norm parameters and its two linear layers, in the order the layers' forwards read
// them.
std::vector<ParameterSpec> half_parameters(const std::string& name,
                                           const char* first,
                                           std::int64_t inner,
                                           const char* second,
                                           const GptConfig& config) {
  const std::int64_t width = config.width;
  const std::int64_t second_in = std::string(second) == "out" ? width : inner;
  // The projections back into the residual stream start smaller, by the number of additions to it.
  const double residual = kInitialDeviation / std::sqrt(2.0 * config.layers);
  return {{name + ".norm.weight", {width}, 1, 0},
          {name + ".norm.bias", {width}, 0, 0},
          {name + "." + first + ".weight", {inner, width}, 0, kInitialDeviation},
          {name + "." + first + ".bias", {inner}, 0, 0},
          {name + "." + second + ".weight", {width, second_in}, 0, residual},
          {name + "." + second + ".bias", {width}, 0, 0}};
}

LayerSpec embedding_spec(const GptConfig& config) {
  const double values = static_cast<double>(config.context) * config.width;
  LayerSpec spec;
  spec.name = "embedding";
  spec.parameters = {
      {"embedding.weight", {config.vocabulary, config.width}, 0, kInitialDeviation},
      {"embedding.position.weight", {config.context, config.width}, 0, kInitialDeviation}};
  spec.cost = {0, 4 * values * kFloatBytes, values * kFloatBytes};
  spec.memory = {.working = 2 * values};
  spec.build = [p = config.dropout] { return std::make_unique<EmbeddingLayer>(p); };
  return spec;
}

LayerSpec attention_spec(const GptConfig& config, int block) {
  const double tokens = config.context, width = config.width;
  LayerSpec spec;
  spec.name = "blocks." + std::to_string(block) + ".attention";
  spec.block = block;
  spec.parameters = half_parameters(spec.name, "qkv", 3LL * config.width, "out", config);
  // The causal mask leaves half of the two score products.
  spec.cost = {8 * tokens * width * width + 2 * tokens * tokens * width,
               16 * tokens * width * kFloatBytes, tokens * width * kFloatBytes};
  // The input, statistics of norm and softmax, and the dropout's mask; the norm's result, queries,
  // keys, values and the attention's result.
  const double mask = config.dropout > 0 ? 1 : 0;
  spec.memory = {.floats = tokens * ((1 + mask) * width + 2 + config.heads),
                 .products = 5 * tokens * width,
                 .working = 9 * tokens * width,
                 .is_attention = true};
  spec.build = [name = spec.name, config] {
    return std::make_unique<HalfLayer>(name, config.heads, config.dropout);
  };
  return spec;
}

LayerSpec mlp_spec(const GptConfig& config, int block) {
  const double tokens = config.context, width = config.width;
  LayerSpec spec;
  spec.name = "blocks." + std::to_string(block) + ".mlp";
  spec.block = block;
  spec.parameters = half_parameters(spec.name, "up", 4LL * config.width, "down", config);
  spec.cost = {16 * tokens * width * width, 16 * tokens * width * kFloatBytes,
               tokens * width * kFloatBytes};
  // The input, the norm's statistics and the mask; the norm's result, and both sides of the gelu.
  const double mask = config.dropout > 0 ? 1 : 0;
  spec.memory = {.floats = tokens * ((1 + mask) * width + 2),
                 .products = 9 * tokens * width,
                 .working = 9 * tokens * width};
  spec.build = [name = spec.name, config] {
    return std::make_unique<HalfLayer>(name, 0, config.dropout);
  };
  return spec;
}

LayerSpec head_spec(const GptConfig& config) {
  const double tokens = config.context, width = config.width, vocabulary = config.vocabulary;
  LayerSpec spec;
  spec.name = "head";
  spec.parameters = {{"head.norm.weight", {config.width}, 1, 0},
                     {"head.norm.bias", {config.width}, 0, 0},
                     {config.tied ? "embedding.weight" : "head.weight",
                      {config.vocabulary, config.width},
                      0,
                      kInitialDeviation}};
  spec.cost = {2 * tokens * width * vocabulary, (2 * width + 3 * vocabulary) * tokens * kFloatBytes,
               0};
  spec.memory = {.floats = tokens * (2 * width + vocabulary + 4),
                 .working = 3 * tokens * width,
                 .copies = tokens * (vocabulary + width)};
  spec.build = [] { return std::make_unique<HeadLayer>(); };
  return spec;
}

}  // namespace

std::vector<LayerSpec> gpt(const GptConfig& config) {
  require_sizes(config);
  require_memory(2.0 * config.layers * (sizeof(LayerSpec) + 6 * sizeof(ParameterSpec)),
                 cat("model.layers ", config.layers, " are too many to describe"));
  std::vector<LayerSpec> model = {embedding_spec(config)};
  for (int block = 0; block < config.layers; ++block) {
    model.push_back(attention_spec(config, block));
    model.push_back(mlp_spec(config, block));
  }
  model.push_back(head_spec(config));
  return model;
}

}  // namespace headrace
