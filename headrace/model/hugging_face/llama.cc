#include "headrace/model/hugging_face/llama.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::pair<const char*, const char*>, 11> kBlock = {
    {{"attention.norm", "input_layernorm"},
     {"attention.q_norm", "self_attn.q_norm"},
     {"attention.k_norm", "self_attn.k_norm"},
     {"attention.q", "self_attn.q_proj"},
     {"attention.k", "self_attn.k_proj"},
     {"attention.v", "self_attn.v_proj"},
     {"attention.out", "self_attn.o_proj"},
     {"mlp.norm", "post_attention_layernorm"},
     {"mlp.gate", "mlp.gate_proj"},
     {"mlp.up", "mlp.up_proj"},
     {"mlp.down", "mlp.down_proj"}}};

constexpr const char* kModel = "model.";  // what all names but the head's begin with
constexpr const char* kHead = "lm_head.weight";

std::string their_name(const std::string& ours) {
  if (ours == "embedding.weight") return "model.embed_tokens.weight";
  if (ours == "head.norm.weight") return "model.norm.weight";
  if (ours == "head.weight") return kHead;
  const std::string rest = ours.substr(std::string("blocks.").size());
  const std::size_t dot = rest.find('.'), last = rest.rfind('.');
  const std::string part = rest.substr(dot + 1, last - dot - 1);
  for (const auto& [name, theirs] : kBlock)
    if (part == name)
      return cat(kModel, "layers.", rest.substr(0, dot), ".", theirs, rest.substr(last));
  throw Error(cat("transformers' Llama has no parameter like ", ours));
}

struct Kind {
  const char* architecture;
  int key_value_heads;  // where the file does not say: 0, as many as heads
  int head_width;       // 0: width / heads
};
Kind kind_of(Family family) {
  switch (family) {
    case Family::Mistral:
      return {"MistralForCausalLM", 8, 0};
    case Family::Qwen2:
      return {"Qwen2ForCausalLM", 32, 0};
    case Family::Qwen3:
      return {"Qwen3ForCausalLM", 32, 128};
    default:
      return {"LlamaForCausalLM", 0, 0};
  }
}

// An object of `rope_scaling` or `rope_parameters`.
void read_rope_object(ConfigFields& fields,
                      const char* key,
                      const Json& rope,
                      TransformerConfig& config) {
  std::string type = "default";
  TransformerConfig read;
  double original = 0;
  for (const auto& [name, value] : rope.items()) {
    const auto number = [&](double& to) {
      const bool ok = value.is_number() && value.get<double>() > 0;
      fields.check(ok, key, ".", name, " is ", value.dump(), "; it must be a number above 0");
      if (ok) to = value.get<double>();
    };
    if (name == "rope_type" || name == "type") {
      // The first is the newer name, and counts where both stand.
      const bool counts = name == "rope_type" || !rope.contains("rope_type");
      if (counts) type = value.is_string() ? value.get<std::string>() : value.dump();
    } else if (name == "rope_theta") {
      number(config.rope_theta);
    } else if (name == "factor") {
      number(read.rope_factor);
    } else if (name == "low_freq_factor") {
      number(read.rope_low);
    } else if (name == "high_freq_factor") {
      number(read.rope_high);
    } else if (name == "original_max_position_embeddings") {
      number(original);
    } else {
      fields.check(name == "partial_rotary_factor" && value == 1.0, key, ".", name, " is ",
                   excerpt(value.dump()), ", which is not known");
    }
  }
  fields.check(type == "default" || type == "linear" || type == "llama3", key, ".rope_type is ",
               excerpt(type), "; known: default, linear and llama3");
  if (type == "default") return;
  config.rope_scaling = type;
  config.rope_factor = read.rope_factor;
  if (type == "linear") return;
  config.rope_low = read.rope_low;
  config.rope_high = read.rope_high;
  config.rope_original = static_cast<int>(original);
}

// `rope_theta` and `rope_scaling`, or, from version 5 on, `rope_parameters` with both.
void read_rope(ConfigFields& fields, TransformerConfig& config) {
  config.rope_theta = fields.number_or("rope_theta", 10000);
  fields.require("partial_rotary_factor", {1.0, 1}, "all of a head turned");
  fields.require("rope_interleaved", {false}, "a head's halves turned");
  fields.require("use_mrope", {false}, "one position a token");
  int given = 0;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json* rope = fields.find(key);
    if (rope == nullptr || rope->is_null()) continue;
    fields.check(++given == 1, "rope_scaling and rope_parameters are both given; leave one out");
    fields.check(rope->is_object(), key, " is ", excerpt(rope->dump()), "; it must be an object");
    if (rope->is_object()) read_rope_object(fields, key, *rope, config);
  }
}

// Where it is shorter than the context, tokens are left out: of this context or of the one that is asked for.
void read_window(ConfigFields& fields, TransformerConfig& config) {
  const bool is_off =
      config.family != Family::Mistral && !fields.flag_or("use_sliding_window", false);
  const Json* window = fields.find("sliding_window");
  constexpr int kDefault = 4096;
  if (!is_off && window == nullptr) config.window = kDefault;
  if (!is_off && window != nullptr && !window->is_null()) {
    const bool ok = window->is_number_integer() && *window >= 1 && *window <= (1 << 30);
    fields.check(ok, "sliding_window is ", window->dump(),
                 "; it must be a whole number, 1 or more");
    if (ok) config.window = window->get<int>();
  }
  const Json* types = fields.find("layer_types");
  const bool all_full = types == nullptr || types->is_null() ||
                        (types->is_array() && std::ranges::all_of(*types, [](const Json& type) {
                           return type == "full_attention";
                         }));
  fields.check(all_full || config.window > 0, "layer_types holds ",
               all_full ? "" : excerpt(types->dump()), "; here every layer has full attention");
}

}  // namespace

Naming llama_naming(const TransformerConfig& config) {
  Naming naming;
  naming.optional_prefix = kModel;
  for (const LayerInfo& layer : transformer_layers(config))
    for (const ParameterSpec& parameter : layer.parameters)
      naming.stored[parameter.name] = {their_name(parameter.name), false, parameter.shape};
  // Files of old versions hold the frequencies.
  for (int block = 0; block < config.layers; ++block)
    naming.ignored.insert(cat(kModel, "layers.", block, ".self_attn.rotary_emb.inv_freq"));
  if (config.tied) naming.copies.emplace(kHead, "embedding.weight");
  return naming;
}

std::string llama_config_json(const TransformerConfig& given) {
  const TransformerConfig config = filled(given);
  nlohmann::ordered_json json = {{"model_type", name_of(config.family)},
                                 {"architectures", {kind_of(config.family).architecture}},
                                 {"vocab_size", config.vocabulary},
                                 {"max_position_embeddings", config.context},
                                 {"hidden_size", config.width},
                                 {"intermediate_size", config.inner},
                                 {"num_hidden_layers", config.layers},
                                 {"num_attention_heads", config.heads},
                                 {"num_key_value_heads", config.kv_heads},
                                 {"head_dim", config.head_width},
                                 {"hidden_act", their_activation(config.activation)},
                                 {"rms_norm_eps", config.norm_epsilon},
                                 {"rope_theta", config.rope_theta},
                                 {"rope_scaling", nullptr},
                                 {"tie_word_embeddings", config.tied},
                                 {"attention_dropout", 0.0},
                                 {"initializer_range", 0.02},
                                 {"bos_token_id", nullptr},
                                 {"eos_token_id", nullptr},
                                 {"torch_dtype", "float32"}};
  if (config.rope_scaling == "linear")
    json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", config.rope_factor}};
  if (config.rope_scaling == "llama3")
    json["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", config.rope_factor},
                            {"low_freq_factor", config.rope_low},
                            {"high_freq_factor", config.rope_high},
                            {"original_max_position_embeddings", config.rope_original}};
  if (config.family == Family::Llama || config.family == Family::Qwen3)
    json["attention_bias"] = config.attention_bias;
  if (config.family == Family::Llama) json["mlp_bias"] = config.mlp_bias;
  if (config.family == Family::Mistral)
    json["sliding_window"] = config.window > 0 ? nlohmann::ordered_json(config.window) : nullptr;
  if (config.family == Family::Qwen2 || config.family == Family::Qwen3)
    json["use_sliding_window"] = false;  // it would reach over the whole context
  return json.dump(2) + "\n";
}

TransformerConfig parse_llama_config(Family family, ConfigFields& fields) {
  const Kind kind = kind_of(family);
  TransformerConfig config;
  config.family = family;
  config.layers = fields.size("num_hidden_layers");
  config.width = fields.size("hidden_size");
  config.heads = fields.size("num_attention_heads");
  config.kv_heads = fields.size_or("num_key_value_heads", kind.key_value_heads);
  config.head_width = fields.size_or("head_dim", kind.head_width);
  config.inner = fields.size("intermediate_size");
  config.context = fields.size("max_position_embeddings");
  config.vocabulary = fields.size("vocab_size");
  config.tied = fields.flag_or("tie_word_embeddings", false);
  config.norm_epsilon = fields.number_or("rms_norm_eps", 1e-6);
  config.activation = fields.activation_or("hidden_act", "silu");
  if (family == Family::Llama || family == Family::Qwen3)
    config.attention_bias = fields.flag_or("attention_bias", false);
  if (family == Family::Llama) config.mlp_bias = fields.flag_or("mlp_bias", false);
  read_rope(fields, config);
  read_window(fields, config);
  fields.finish({"attention_dropout", "is_llama_config", "max_window_layers", "pretraining_tp"});
  return config;
}

}  // namespace headrace
