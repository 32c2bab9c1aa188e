#include "headrace/plan/gpt_layers.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"

namespace headrace {
namespace {

constexpr double kInitialDeviation = 0.02;  // GPT-2's
constexpr double kFloatBytes = 4;

void require_sizes(const GptConfig& config) {
  const auto positive = [](int value, const char* name) {
    check_usage(value >= 1, name, " is ", value, "; it must be 1 or more");
  };
  positive(config.layers, "layers");
  positive(config.width, "width");
  positive(config.heads, "heads");
  positive(config.context, "context");
  positive(config.vocabulary, "vocabulary");
  check_usage(config.width % config.heads == 0, "width ", config.width,
              " is not a multiple of heads ", config.heads,
              ": each head takes width / heads; the nearest width that fits is ",
              (config.width / config.heads + 1) * config.heads);
  check_usage(config.dropout >= 0 && config.dropout < 1, "dropout is ", config.dropout,
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

LayerInfo embedding_layer(const GptConfig& config) {
  const double values = static_cast<double>(config.context) * config.width;
  LayerInfo layer;
  layer.name = "embedding";
  layer.parameters = {
      {"embedding.weight", {config.vocabulary, config.width}, 0, kInitialDeviation},
      {"embedding.position.weight", {config.context, config.width}, 0, kInitialDeviation}};
  layer.cost = {0, 4 * values * kFloatBytes, values * kFloatBytes};
  layer.memory = {.working = 2 * values};
  return layer;
}

LayerInfo attention_layer(const GptConfig& config, int block) {
  const double tokens = config.context, width = config.width;
  LayerInfo layer;
  layer.name = "blocks." + std::to_string(block) + ".attention";
  layer.block = block;
  layer.parameters = half_parameters(layer.name, "qkv", 3LL * config.width, "out", config);
  // The causal mask leaves half of the two score products.
  layer.cost = {8 * tokens * width * width + 2 * tokens * tokens * width,
                16 * tokens * width * kFloatBytes, tokens * width * kFloatBytes};
  // The input, statistics of norm and softmax, and the dropout's mask; the norm's result, queries,
  // keys, values and the attention's result.
  const double mask = config.dropout > 0 ? 1 : 0;
  layer.memory = {.floats = tokens * ((1 + mask) * width + 2 + config.heads),
                  .products = 5 * tokens * width,
                  .working = 9 * tokens * width,
                  .is_attention = true};
  return layer;
}

LayerInfo mlp_layer(const GptConfig& config, int block) {
  const double tokens = config.context, width = config.width;
  LayerInfo layer;
  layer.name = "blocks." + std::to_string(block) + ".mlp";
  layer.block = block;
  layer.parameters = half_parameters(layer.name, "up", 4LL * config.width, "down", config);
  layer.cost = {16 * tokens * width * width, 16 * tokens * width * kFloatBytes,
                tokens * width * kFloatBytes};
  // The input, the norm's statistics and the mask; the norm's result, and both sides of the gelu.
  const double mask = config.dropout > 0 ? 1 : 0;
  layer.memory = {.floats = tokens * ((1 + mask) * width + 2),
                  .products = 9 * tokens * width,
                  .working = 9 * tokens * width};
  return layer;
}

LayerInfo head_layer(const GptConfig& config) {
  const double tokens = config.context, width = config.width, vocabulary = config.vocabulary;
  LayerInfo layer;
  layer.name = "head";
  layer.parameters = {{"head.norm.weight", {config.width}, 1, 0},
                      {"head.norm.bias", {config.width}, 0, 0},
                      {config.tied ? "embedding.weight" : "head.weight",
                       {config.vocabulary, config.width},
                       0,
                       kInitialDeviation}};
  layer.cost = {2 * tokens * width * vocabulary,
                (2 * width + 3 * vocabulary) * tokens * kFloatBytes, 0};
  layer.memory = {.floats = tokens * (2 * width + 4),
                  .working = 3 * tokens * width,
                  .copies = tokens * width,
                  .logit_tokens = config.context,
                  .vocabulary = config.vocabulary};
  return layer;
}

}  // namespace

std::vector<LayerInfo> gpt_layers(const GptConfig& config) {
  require_sizes(config);
  // A half's six parameters are listed here, in the model that is built from this, and in a plan.
  require_memory(2.0 * config.layers * 3 * (sizeof(LayerInfo) + 6 * sizeof(ParameterSpec)),
                 cat("layers ", config.layers, " are too many to describe"));
  std::vector<LayerInfo> layers = {embedding_layer(config)};
  for (int block = 0; block < config.layers; ++block) {
    layers.push_back(attention_layer(config, block));
    layers.push_back(mlp_layer(config, block));
  }
  layers.push_back(head_layer(config));
  return layers;
}

}  // namespace headrace
