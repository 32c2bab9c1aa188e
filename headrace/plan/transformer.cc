#include "headrace/plan/transformer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

constexpr double kInitialDeviation = 0.02;  // GPT-2's, and the others'
constexpr double kFloatBytes = 4;

// What a family is made of.
struct Traits {
  const char* name;
  bool is_llama;            // RMS norm, rotary positions, a gated MLP
  bool qkv_bias, out_bias;  // of attention
  bool bias_is_open;        // attention_bias and mlp_bias may add some
  bool head_norms;
  double epsilon;
};
constexpr std::array<Traits, 5> kTraits = {{
    {"gpt", false, true, true, false, false, 1e-5},
    {"llama", true, false, false, true, false, 1e-6},
    {"mistral", true, false, false, false, false, 1e-6},
    {"qwen2", true, true, false, false, false, 1e-6},
    {"qwen3", true, false, false, true, true, 1e-6},
}};

const Traits& traits_of(Family family) {
  return kTraits.at(static_cast<std::size_t>(family));
}

constexpr std::array<std::pair<const char*, Activation>, 4> kActivations = {
    {{"gelu_tanh", Activation::GeluTanh},
     {"gelu", Activation::Gelu},
     {"relu", Activation::Relu},
     {"silu", Activation::Silu}}};

Activation activation_of(const std::string& name) {
  for (const auto& [word, kind] : kActivations)
    if (name == word) return kind;
  throw UsageError(cat("activation is \"", name, "\"; known: gelu_tanh, gelu, relu and silu"));
}

RotaryOp rotary_of(const TransformerConfig& config) {
  return {.heads = config.heads + config.kv_heads,
          .head_width = config.head_width,
          .theta = config.rope_theta,
          .scaling = config.rope_scaling == "linear"   ? RotaryOp::Scaling::Linear
                     : config.rope_scaling == "llama3" ? RotaryOp::Scaling::Llama3
                                                       : RotaryOp::Scaling::None,
          .factor = config.rope_factor,
          .low = config.rope_low,
          .high = config.rope_high,
          .original = config.rope_original};
}

// A family's lists of operations, for sizes that are filled in.
class Lists {
 public:
  explicit Lists(const TransformerConfig& config)
      : config_(config), traits_(traits_of(config.family)) {}

  NormOp norm() const {
    return {.name = "norm",
            .width = config_.width,
            .is_rms = traits_.is_llama,
            .epsilon = config_.norm_epsilon};
  }

  std::vector<Operation> attention() const {
    const std::int64_t q = std::int64_t{config_.heads} * config_.head_width,
                       kv = std::int64_t{config_.kv_heads} * config_.head_width;
    std::vector<LinearOp::Part> parts = {{"qkv", q + 2 * kv}};
    if (traits_.is_llama) parts = {{"q", q}, {"k", kv}, {"v", kv}};
    std::vector<Operation> list = {
        norm(), linear(config_.width, parts, traits_.qkv_bias || config_.attention_bias)};
    if (traits_.head_norms) {
      list.emplace_back(head_norm("q_norm", 0, config_.heads));
      list.emplace_back(head_norm("k_norm", config_.heads, config_.kv_heads));
    }
    if (traits_.is_llama) list.emplace_back(rotary_of(config_));
    list.emplace_back(AttentionOp{config_.heads, config_.kv_heads, config_.head_width});
    list.emplace_back(back_to_stream(q, "out", traits_.out_bias || config_.attention_bias));
    return with_dropout(std::move(list));
  }

  std::vector<Operation> mlp() const {
    const std::int64_t inner = config_.inner;
    const bool bias = !traits_.is_llama || config_.mlp_bias;
    std::vector<LinearOp::Part> parts = {{"up", inner}};
    if (traits_.is_llama) parts.insert(parts.begin(), {"gate", inner});
    std::vector<Operation> list = {norm(), linear(config_.width, parts, bias)};
    const Activation kind = activation_of(config_.activation);
    if (traits_.is_llama)
      list.emplace_back(GatedOp{kind, inner});
    else
      list.emplace_back(ActivationOp{kind, inner});
    list.emplace_back(back_to_stream(inner, "down", bias));
    return with_dropout(std::move(list));
  }

 private:
  static LinearOp linear(std::int64_t in, std::vector<LinearOp::Part> parts, bool bias) {
    return {.in = in, .parts = std::move(parts), .has_bias = bias, .deviation = kInitialDeviation};
  }
  // Projections back into the residual stream start smaller, by the number of additions to it.
  LinearOp back_to_stream(std::int64_t in, const char* name, bool bias) const {
    LinearOp all = linear(in, {{name, config_.width}}, bias);
    all.deviation = kInitialDeviation / std::sqrt(2.0 * config_.layers);
    return all;
  }
  HeadNormOp head_norm(const char* name, std::int64_t first, std::int64_t heads) const {
    return {.name = name,
            .first_head = first,
            .heads = heads,
            .head_width = config_.head_width,
            .epsilon = config_.norm_epsilon};
  }
  std::vector<Operation> with_dropout(std::vector<Operation> list) const {
    if (config_.dropout > 0) list.emplace_back(DropoutOp{config_.dropout, config_.width});
    return list;
  }

  const TransformerConfig& config_;
  const Traits& traits_;
};

void add_parameters(LayerInfo& layer) {
  for (const Operation& operation : layer.operations)
    for (ParameterSpec& parameter : parameters_of(operation, layer.name))
      layer.parameters.push_back(std::move(parameter));
}

LayerInfo embedding_layer(const TransformerConfig& config) {
  const double values = static_cast<double>(config.context) * config.width;
  LayerInfo layer;
  layer.name = "embedding";
  layer.kind = LayerKind::Embedding;
  layer.parameters = {
      {"embedding.weight", {config.vocabulary, config.width}, 0, kInitialDeviation}};
  if (!traits_of(config.family).is_llama)
    layer.parameters.push_back(
        {"embedding.position.weight", {config.context, config.width}, 0, kInitialDeviation});
  if (config.dropout > 0) layer.operations = {DropoutOp{config.dropout, config.width}};
  layer.cost = {0, 4 * values * kFloatBytes, values * kFloatBytes};
  layer.memory = {.working = 2 * values};
  return layer;
}

LayerInfo half_layer(const TransformerConfig& config,
                     int block,
                     const char* name,
                     std::vector<Operation> operations) {
  const double tokens = config.context, values = tokens * config.width;
  constexpr double kPasses = 6;  // over the stream, beside what the operations do themselves
  LayerInfo layer;
  layer.name = cat("blocks.", block, ".", name);
  layer.block = block;
  layer.kind = LayerKind::Half;
  layer.operations = std::move(operations);
  add_parameters(layer);
  layer.memory.is_attention = std::string(name) == "attention";
  double moved = kPasses * values;
  for (const Operation& operation : layer.operations) {
    const OperationCost cost = cost_of(operation, tokens);
    layer.cost.flops += cost.flops;
    moved += cost.moved;
    layer.memory.floats += cost.floats;
    layer.memory.products += cost.products;
    layer.memory.working = std::max(layer.memory.working, values + cost.working);
  }
  layer.cost.moved_bytes = moved * kFloatBytes;
  layer.cost.boundary_bytes = values * kFloatBytes;
  return layer;
}

LayerInfo head_layer(const TransformerConfig& config, NormOp norm) {
  const double tokens = config.context, width = config.width, vocabulary = config.vocabulary;
  LayerInfo layer;
  layer.name = "head";
  layer.kind = LayerKind::Head;
  layer.operations = {std::move(norm)};
  add_parameters(layer);
  layer.parameters.push_back({config.tied ? "embedding.weight" : "head.weight",
                              {config.vocabulary, config.width},
                              0,
                              kInitialDeviation});
  layer.cost = {2 * tokens * width * vocabulary,
                (2 * width + 3 * vocabulary) * tokens * kFloatBytes, 0};
  layer.memory = {.floats = tokens * (2 * width + 4),
                  .working = 3 * tokens * width,
                  .copies = tokens * width,
                  .logit_tokens = config.context,
                  .vocabulary = config.vocabulary};
  return layer;
}

// What the family has not, and is asked for.
void add_foreign_settings(const TransformerConfig& config, std::vector<std::string>& faults) {
  const Traits& traits = traits_of(config.family);
  const auto only = [&](bool asked, bool has, const char* name, const char* families) {
    if (asked && !has)
      faults.push_back(cat(name, " is for ", families, "; ", traits.name, " has none to set"));
  };
  const char* const llamas = "llama, mistral, qwen2 and qwen3";
  only(config.kv_heads != 0 && config.kv_heads != config.heads, traits.is_llama, "kv_heads",
       llamas);
  only(config.rope_theta != 0, traits.is_llama, "rope_theta", llamas);
  only(!config.rope_scaling.empty(), traits.is_llama, "rope_scaling", llamas);
  only(config.attention_bias, traits.bias_is_open, "attention_bias", "llama and qwen3");
  only(config.mlp_bias, config.family == Family::Llama, "mlp_bias", "llama");
  const bool has_numbers = config.rope_factor != 0 || config.rope_low != 0 ||
                           config.rope_high != 0 || config.rope_original != 0;
  if (config.rope_scaling.empty()) {
    if (has_numbers)
      faults.emplace_back(
          "rope_factor, rope_low, rope_high and rope_original are numbers of a rope_scaling, and "
          "there is none");
    return;
  }
  if (config.rope_scaling != "linear" && config.rope_scaling != "llama3")
    faults.push_back(
        cat("rope_scaling is \"", config.rope_scaling, "\"; known: linear and llama3"));
  if (config.rope_factor < 1) faults.emplace_back("rope_factor must be 1 or more");
  if (config.rope_scaling == "llama3" &&
      !(config.rope_original >= 1 && config.rope_low > 0 && config.rope_high > config.rope_low))
    faults.emplace_back(
        "rope_scaling llama3 needs rope_original (tokens), and rope_low below rope_high");
}

void add_fault_of_window(const TransformerConfig& config, std::vector<std::string>& faults) {
  if (config.window > 0 && config.window < config.context)
    faults.push_back(
        cat("context is ", config.context, ", longer than the sliding window of ", config.window,
            " tokens (sliding_window) that the model was made for; here every token sees all "
            "before it: a context of at most ",
            config.window, " fits"));
}

void add_faults_of_sizes(const TransformerConfig& config, std::vector<std::string>& faults) {
  const auto positive = [&](int value, const char* name) {
    if (value < 1) faults.push_back(cat(name, " is ", value, "; it must be 1 or more"));
  };
  positive(config.layers, "layers");
  positive(config.width, "width");
  positive(config.heads, "heads");
  positive(config.context, "context");
  positive(config.vocabulary, "vocabulary");
  if (!(config.dropout >= 0 && config.dropout < 1))
    faults.push_back(cat("dropout is ", config.dropout, "; it must be at least 0 and below 1"));
  if (!faults.empty()) return;
  if (config.head_width == 0 && config.width % config.heads != 0)
    faults.push_back(cat("width ", config.width, " is not a multiple of heads ", config.heads,
                         ": each head takes width / heads; the nearest width that fits is ",
                         (config.width / config.heads + 1) * config.heads));
  if (config.kv_heads != 0 && config.heads % config.kv_heads != 0)
    faults.push_back(cat("heads ", config.heads, " is not a multiple of kv_heads ", config.kv_heads,
                         ": each is shared by heads / kv_heads"));
  const int head_width = config.head_width != 0 ? config.head_width : config.width / config.heads;
  if (traits_of(config.family).is_llama && head_width % 2 != 0)
    faults.push_back(
        cat("head_width is ", head_width, ", and rotary positions turn its numbers in pairs"));
}

}  // namespace

const std::vector<std::string>& family_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Traits& traits : kTraits) all.emplace_back(traits.name);
    return all;
  }();
  return names;
}

std::string name_of(Family family) {
  return traits_of(family).name;
}

std::optional<Family> family_of(const std::string& name) {
  const auto found = std::ranges::find(family_names(), name);
  if (found == family_names().end()) return std::nullopt;
  return static_cast<Family>(found - family_names().begin());
}

TransformerConfig filled(const TransformerConfig& config) {
  TransformerConfig all = config;
  const Traits& traits = traits_of(config.family);
  if (all.kv_heads == 0) all.kv_heads = all.heads;
  if (all.head_width == 0) all.head_width = all.width / std::max(1, all.heads);
  constexpr std::int64_t kMultiple = 32;
  const std::int64_t width = all.width;
  if (all.inner == 0)
    all.inner =
        traits.is_llama ? (8 * width / 3 + kMultiple - 1) / kMultiple * kMultiple : 4 * width;
  if (all.norm_epsilon == 0) all.norm_epsilon = traits.epsilon;
  if (all.activation.empty()) all.activation = traits.is_llama ? "silu" : "gelu_tanh";
  if (traits.is_llama && all.rope_theta == 0) all.rope_theta = 10000;
  return all;
}

std::vector<std::string> faults_of(const TransformerConfig& config) {
  std::vector<std::string> faults;
  add_faults_of_sizes(config, faults);
  add_foreign_settings(config, faults);
  add_fault_of_window(config, faults);
  return faults;
}

std::vector<LayerInfo> transformer_layers(const TransformerConfig& given) {
  const std::vector<std::string> faults = faults_of(given);
  check_usage(faults.empty(), join_text(faults, "; "));
  const TransformerConfig config = filled(given);
  // A half's parameters and operations are listed here, in the model that is built from this, and in a plan.
  require_memory(2.0 * config.layers * 3 *
                     (sizeof(LayerInfo) + 6 * (sizeof(ParameterSpec) + sizeof(Operation))),
                 cat("layers ", config.layers, " are too many to describe"));
  const Lists lists(config);
  std::vector<LayerInfo> layers = {embedding_layer(config)};
  for (int block = 0; block < config.layers; ++block) {
    layers.push_back(half_layer(config, block, "attention", lists.attention()));
    layers.push_back(half_layer(config, block, "mlp", lists.mlp()));
  }
  layers.push_back(head_layer(config, lists.norm()));
  return layers;
}

}  // namespace headrace
