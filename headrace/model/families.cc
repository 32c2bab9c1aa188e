#include "headrace/model/families.h"

#include <variant>

#include "headrace/model/gpt.h"
#include "headrace/model/hugging_face/gpt2.h"

namespace headrace {
namespace {

std::vector<LayerSpec> specs(const GptConfig& config) {
  return gpt(config);
}

Naming naming(const GptConfig& config) {
  return gpt2_naming(config);
}

std::string json(const GptConfig& config) {
  return gpt2_config_json(config);
}

}  // namespace

std::vector<LayerSpec> build(const ModelFamily& family) {
  return std::visit([](const auto& config) { return specs(config); }, family);
}

Naming naming_of(const ModelFamily& family) {
  return std::visit([](const auto& config) { return naming(config); }, family);
}

std::string config_json(const ModelFamily& family) {
  return std::visit([](const auto& config) { return json(config); }, family);
}

ModelFamily parse_config_json(const std::string& json, const std::string& name) {
  return parse_gpt2_config(json, name);
}

}  // namespace headrace
