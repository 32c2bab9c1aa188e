#include "headrace/model/hugging_face/fields.h"

#include <algorithm>
#include <array>
#include <limits>

#include "headrace/base/error.h"

namespace headrace {
namespace {

using Json = nlohmann::json;

// Theirs, ours; the first of ours is the one that is written.
constexpr std::array<std::pair<const char*, const char*>, 7> kActivations = {
    {{"gelu_new", "gelu_tanh"},
     {"gelu_pytorch_tanh", "gelu_tanh"},
     {"gelu_fast", "gelu_tanh"},
     {"gelu", "gelu"},
     {"relu", "relu"},
     {"silu", "silu"},
     {"swish", "silu"}}};

// What generating text, training by transformers, or other heads than a language model's read.
constexpr std::array kWithoutSay =
    std::to_array<std::string_view>({"architectures",
                                     "attn_implementation",
                                     "bad_words_ids",
                                     "begin_suppress_tokens",
                                     "chunk_size_feed_forward",
                                     "cross_attention_hidden_size",
                                     "decoder_start_token_id",
                                     "diversity_penalty",
                                     "do_sample",
                                     "early_stopping",
                                     "encoder_no_repeat_ngram_size",
                                     "exponential_decay_length_penalty",
                                     "forced_bos_token_id",
                                     "forced_eos_token_id",
                                     "length_penalty",
                                     "max_length",
                                     "max_new_tokens",
                                     "min_length",
                                     "no_repeat_ngram_size",
                                     "num_beam_groups",
                                     "num_beams",
                                     "num_return_sequences",
                                     "output_scores",
                                     "prefix",
                                     "remove_invalid_values",
                                     "repetition_penalty",
                                     "return_dict_in_generate",
                                     "suppress_tokens",
                                     "temperature",
                                     "tf_legacy_loss",
                                     "tie_encoder_decoder",
                                     "top_k",
                                     "top_p",
                                     "transformers.js_config",
                                     "typical_p",
                                     "unsloth_fixed",
                                     "unsloth_version",
                                     "use_bfloat16",
                                     "_attn_implementation",
                                     "bos_token_id",
                                     "dtype",
                                     "eos_token_id",
                                     "finetuning_task",
                                     "gradient_checkpointing",
                                     "id2label",
                                     "initializer_range",
                                     "keys_to_ignore_at_inference",
                                     "label2id",
                                     "num_labels",
                                     "output_attentions",
                                     "output_hidden_states",
                                     "pad_token_id",
                                     "problem_type",
                                     "return_dict",
                                     "task_specific_params",
                                     "tokenizer_class",
                                     "torch_dtype",
                                     "torchscript",
                                     "transformers_version",
                                     "use_cache",
                                     "_attn_implementation_autoset",
                                     "_name_or_path"});

}  // namespace

ConfigFields::ConfigFields(const std::string& text, std::string name)
    : name_(std::move(name)), json_(parse_json(text, name_)), fields_(json_, name_) {}

int ConfigFields::size(const char* key) {
  const std::int64_t value = fields_.integer(key, 1);
  constexpr std::int64_t kMost = std::numeric_limits<int>::max();
  check_usage(value <= kMost, name_, ": ", key, " is ", value, "; it can be at most ", kMost);
  return static_cast<int>(value);
}

int ConfigFields::size_or(const char* key, int otherwise) {
  if (!json_.contains(key)) return otherwise;
  return json_.at(key).is_null() ? (find(key), otherwise) : size(key);
}

double ConfigFields::number_or(const char* key, double otherwise) {
  const Json* value = find(key);
  if (value == nullptr || value->is_null()) return otherwise;
  check(value->is_number() && value->get<double>() > 0, key, " is ", excerpt(value->dump()),
        "; it must be a number above 0");
  return value->is_number() ? value->get<double>() : otherwise;
}

bool ConfigFields::flag_or(const char* key, bool otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  check(value->is_boolean(), key, " is ", excerpt(value->dump()), "; it must be true or false");
  return value->is_boolean() ? value->get<bool>() : otherwise;
}

std::string ConfigFields::activation_or(const char* key, const char* otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  for (const auto& [theirs, ours] : kActivations)
    if (*value == theirs) return ours;
  check(false, key, " is ", excerpt(value->dump()), "; known: gelu_new, gelu, relu and silu");
  return otherwise;
}

void ConfigFields::require(const char* key, const std::vector<Json>& allowed, const char* ours) {
  const Json* value = find(key);
  if (value != nullptr)
    check(std::ranges::find(allowed, *value) != allowed.end(), key, " is ", excerpt(value->dump()),
          "; here is ", ours);
}

void ConfigFields::finish(const std::vector<std::string_view>& without_say) {
  require("quantization_config", {nullptr}, "weights of fp32, bf16 or fp16");
  require("pruned_heads", {Json::object(), nullptr}, "all heads");
  require("is_encoder_decoder", {false}, "a decoder alone");
  require("is_decoder", {false, true}, "a decoder alone");
  require("add_cross_attention", {false}, "a decoder alone");
  for (const std::string_view key : kWithoutSay) find(std::string(key).c_str());
  for (const std::string_view key : without_say) find(std::string(key).c_str());
  faults_.require_none();
  fields_.require_no_more();
}

std::string their_activation(const std::string& ours) {
  for (const auto& [theirs, as_ours] : kActivations)
    if (ours == as_ours) return theirs;
  return ours;
}

}  // namespace headrace
