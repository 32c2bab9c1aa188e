#include "headrace/model/hugging_face/hugging_face.h"

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/model/hugging_face/fields.h"
#include "headrace/model/hugging_face/gpt2.h"
#include "headrace/model/hugging_face/llama.h"

namespace headrace {

Naming naming_of(const TransformerConfig& config) {
  return config.family == Family::Gpt ? gpt2_naming(config) : llama_naming(config);
}

std::string config_json(const TransformerConfig& config) {
  return config.family == Family::Gpt ? gpt2_config_json(config) : llama_config_json(config);
}

std::string config_json(const TransformerConfig& config, const std::string& theirs) {
  auto ours = nlohmann::ordered_json::parse(config_json(config));
  const auto other = nlohmann::json::parse(theirs, nullptr, /*allow_exceptions=*/false);
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    if (other.is_object() && other.contains(key)) ours[key] = other.at(key);
  return ours.dump(2) + "\n";
}

namespace {

TransformerConfig parse(const std::string& json, const std::string& name) {
  ConfigFields fields(json, name);
  const std::string type = fields.text("model_type");
  const auto family = type == "gpt2" ? Family::Gpt : family_of(type == "gpt" ? "" : type);
  check_usage(family.has_value(), name, ": model_type is ", excerpt(type),
              "; known: gpt2, llama, mistral, qwen2 and qwen3");
  const TransformerConfig config =
      *family == Family::Gpt ? parse_gpt2_config(fields) : parse_llama_config(*family, fields);
  TransformerConfig without_window = config;
  without_window.window = 0;
  const std::vector<std::string> faults = faults_of(without_window);
  check_usage(faults.empty(), name, ": ", join_text(faults, "; "));
  return filled(config);
}

}  // namespace

TransformerConfig parse_config_json(const std::string& json, const std::string& name) {
  try {
    return parse(json, name);
  } catch (const UsageError&) {
    throw;
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

}  // namespace headrace
