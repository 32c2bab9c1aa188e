#include "headrace/model/hugging_face/gpt2.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {
namespace {

// Ours, theirs, whether it is a matrix of their Conv1D, which holds [in, out].
struct Part {
  const char* ours;
  const char* theirs;
  bool transposed;
};
constexpr std::array<Part, 12> kBlock = {{{"attention.norm.weight", "ln_1.weight", false},
                                          {"attention.norm.bias", "ln_1.bias", false},
                                          {"attention.qkv.weight", "attn.c_attn.weight", true},
                                          {"attention.qkv.bias", "attn.c_attn.bias", false},
                                          {"attention.out.weight", "attn.c_proj.weight", true},
                                          {"attention.out.bias", "attn.c_proj.bias", false},
                                          {"mlp.norm.weight", "ln_2.weight", false},
                                          {"mlp.norm.bias", "ln_2.bias", false},
                                          {"mlp.up.weight", "mlp.c_fc.weight", true},
                                          {"mlp.up.bias", "mlp.c_fc.bias", false},
                                          {"mlp.down.weight", "mlp.c_proj.weight", true},
                                          {"mlp.down.bias", "mlp.c_proj.bias", false}}};

constexpr const char* kHead = "lm_head.weight";

// What their name of ours is; the shape comes from the layers.
std::pair<std::string, bool> their_name(const std::string& ours) {
  if (ours == "embedding.weight") return {"transformer.wte.weight", false};
  if (ours == "embedding.position.weight") return {"transformer.wpe.weight", false};
  if (ours == "head.norm.weight") return {"transformer.ln_f.weight", false};
  if (ours == "head.norm.bias") return {"transformer.ln_f.bias", false};
  if (ours == "head.weight") return {kHead, false};
  const std::string rest = ours.substr(std::string("blocks.").size());
  const std::size_t dot = rest.find('.');
  for (const Part& part : kBlock)
    if (rest.substr(dot + 1) == part.ours)
      return {cat("transformer.h.", rest.substr(0, dot), ".", part.theirs), part.transposed};
  throw Error(cat("transformers' GPT-2 has no parameter like ", ours));
}

}  // namespace

Naming gpt2_naming(const TransformerConfig& config) {
  Naming naming;
  naming.optional_prefix = "transformer.";
  for (const LayerInfo& layer : transformer_layers(config))
    for (const ParameterSpec& parameter : layer.parameters) {
      auto [name, transposed] = their_name(parameter.name);
      naming.stored[parameter.name] = {std::move(name), transposed, parameter.shape};
    }
  // Files of old versions hold the mask and its value.
  for (int block = 0; block < config.layers; ++block)
    for (const char* buffer : {"bias", "masked_bias"})
      naming.ignored.insert(cat("transformer.h.", block, ".attn.", buffer));
  if (config.tied) naming.copies.emplace(kHead, "embedding.weight");
  return naming;
}

std::string gpt2_config_json(const TransformerConfig& given) {
  const TransformerConfig config = filled(given);
  const nlohmann::ordered_json json = {{"model_type", "gpt2"},
                                       {"architectures", {"GPT2LMHeadModel"}},
                                       {"vocab_size", config.vocabulary},
                                       {"n_positions", config.context},
                                       {"n_ctx", config.context},
                                       {"n_embd", config.width},
                                       {"n_layer", config.layers},
                                       {"n_head", config.heads},
                                       {"n_inner", config.inner},
                                       {"activation_function", their_activation(config.activation)},
                                       {"layer_norm_epsilon", config.norm_epsilon},
                                       {"scale_attn_weights", true},
                                       {"scale_attn_by_inverse_layer_idx", false},
                                       {"reorder_and_upcast_attn", false},
                                       {"add_cross_attention", false},
                                       {"tie_word_embeddings", config.tied},
                                       {"resid_pdrop", config.dropout},
                                       {"embd_pdrop", config.dropout},
                                       {"attn_pdrop", 0.0},
                                       {"initializer_range", 0.02},
                                       {"bos_token_id", nullptr},
                                       {"eos_token_id", nullptr},
                                       {"torch_dtype", "float32"}};
  return json.dump(2) + "\n";
}

TransformerConfig parse_gpt2_config(ConfigFields& fields) {
  TransformerConfig config;
  config.layers = fields.size("n_layer");
  config.width = fields.size("n_embd");
  config.heads = fields.size("n_head");
  config.context = fields.size("n_positions");
  config.vocabulary = fields.size("vocab_size");
  config.tied = fields.flag_or("tie_word_embeddings", true);
  config.inner = fields.size_or("n_inner", 0);
  config.norm_epsilon = fields.number_or("layer_norm_epsilon", 1e-5);
  config.activation = fields.activation_or("activation_function", "gelu_tanh");
  fields.require("n_ctx", {config.context}, "n_positions for both");
  fields.require("scale_attn_weights", {true}, "scores divided by the root of a head's width");
  fields.require("scale_attn_by_inverse_layer_idx", {false}, "the same scale in every layer");
  fields.require("reorder_and_upcast_attn", {false}, "no such reordering");
  fields.finish({"attn_pdrop", "embd_pdrop", "n_special", "output_past", "predict_special_tokens",
                 "resid_pdrop", "sep_token_id", "summary_activation", "summary_first_dropout",
                 "summary_proj_to_labels", "summary_type", "summary_use_proj"});
  return config;
}

}  // namespace headrace
