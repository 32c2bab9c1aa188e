#include "headrace/model/hugging_face/gpt2.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/faults.h"
#include "headrace/base/strict_json.h"

namespace headrace {
namespace {

using Json = nlohmann::json;

constexpr double kNormEpsilon = 1e-5;  // libtorch's, which model/gpt.cc and model/halves.cc take

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

// What has no say in the logits: what generating text, training by transformers, or the other heads
// of GPT-2 read.
constexpr std::array<std::string_view, 35> kWithoutSay = {"architectures",
                                                          "attn_pdrop",
                                                          "bos_token_id",
                                                          "dtype",
                                                          "embd_pdrop",
                                                          "eos_token_id",
                                                          "finetuning_task",
                                                          "gradient_checkpointing",
                                                          "id2label",
                                                          "initializer_range",
                                                          "keys_to_ignore_at_inference",
                                                          "label2id",
                                                          "n_special",
                                                          "num_labels",
                                                          "output_attentions",
                                                          "output_hidden_states",
                                                          "output_past",
                                                          "pad_token_id",
                                                          "predict_special_tokens",
                                                          "resid_pdrop",
                                                          "return_dict",
                                                          "sep_token_id",
                                                          "summary_activation",
                                                          "summary_first_dropout",
                                                          "summary_proj_to_labels",
                                                          "summary_type",
                                                          "summary_use_proj",
                                                          "task_specific_params",
                                                          "tokenizer_class",
                                                          "torch_dtype",
                                                          "torchscript",
                                                          "transformers_version",
                                                          "use_cache",
                                                          "_attn_implementation_autoset",
                                                          "_name_or_path"};

int size_of(JsonFields& fields, const char* key) {
  const std::int64_t value = fields.integer(key, 1);
  check_usage(value <= std::numeric_limits<int>::max(), key, " is ", value);
  return static_cast<int>(value);
}

}  // namespace

Naming gpt2_naming(const GptConfig& config) {
  Naming naming;
  naming.optional_prefix = "transformer.";
  for (const LayerSpec& layer : gpt(config))
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

std::string gpt2_config_json(const GptConfig& config) {
  const nlohmann::ordered_json json = {{"model_type", "gpt2"},
                                       {"architectures", {"GPT2LMHeadModel"}},
                                       {"vocab_size", config.vocabulary},
                                       {"n_positions", config.context},
                                       {"n_ctx", config.context},
                                       {"n_embd", config.width},
                                       {"n_layer", config.layers},
                                       {"n_head", config.heads},
                                       {"n_inner", nullptr},
                                       {"activation_function", "gelu_new"},
                                       {"layer_norm_epsilon", kNormEpsilon},
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

GptConfig parse_gpt2_config(const std::string& text, const std::string& name) {
  const Json json = parse_json(text, name);
  JsonFields fields(json, name);
  const std::string type = fields.text("model_type");
  check_usage(type == "gpt2", name, ": model_type is ", excerpt(type), "; only gpt2 is read");
  GptConfig config;
  config.layers = size_of(fields, "n_layer");
  config.width = size_of(fields, "n_embd");
  config.heads = size_of(fields, "n_head");
  config.context = size_of(fields, "n_positions");
  config.vocabulary = size_of(fields, "vocab_size");
  const Json* tied = fields.find("tie_word_embeddings");
  config.tied = tied == nullptr || *tied != false;

  Faults faults;
  const auto require = [&](const char* key, const std::vector<Json>& allowed, const char* ours) {
    const Json* value = fields.find(key);
    if (value != nullptr)
      faults.check(std::ranges::find(allowed, *value) != allowed.end(), name, ": ", key, " is ",
                   excerpt(value->dump()), "; our GPT has ", ours);
  };
  require("activation_function", {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"},
          "GELU in its tanh form (gelu_new)");
  require("n_inner", {nullptr, 4 * std::int64_t{config.width}}, "an MLP four times as wide");
  require("n_ctx", {config.context}, "n_positions for both");
  require("layer_norm_epsilon", {kNormEpsilon}, "1e-5");
  require("scale_attn_weights", {true}, "scores divided by the root of a head's width");
  require("scale_attn_by_inverse_layer_idx", {false}, "the same scale in every layer");
  require("reorder_and_upcast_attn", {false}, "no such reordering");
  require("add_cross_attention", {false}, "a decoder alone");
  require("is_encoder_decoder", {false}, "a decoder alone");
  require("is_decoder", {false, true}, "a decoder alone");
  require("tie_word_embeddings", {true, false}, "true or false");
  require("pruned_heads", {Json::object(), nullptr}, "all heads");
  require("quantization_config", {nullptr}, "weights of fp32, bf16 or fp16");
  for (const std::string_view key : kWithoutSay) fields.find(std::string(key));
  faults.require_none();
  fields.require_no_more();
  return config;
}

}  // namespace headrace
