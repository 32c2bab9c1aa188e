#include "headrace/plan/families.h"

#include <algorithm>
#include <cstddef>
#include <variant>

namespace headrace {
namespace {

struct Family {
  std::string name;
  ModelFamily fresh;
};

const std::vector<Family>& families() {
  static const std::vector<Family> all = {{"gpt", GptConfig()}};
  return all;
}

std::vector<LayerInfo> layers(const GptConfig& config) {
  return gpt_layers(config);
}

ModelSizes sizes(const GptConfig& config) {
  return {config.layers, config.context, config.vocabulary, config.tied};
}

}  // namespace

const std::vector<std::string>& family_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Family& family : families()) all.push_back(family.name);
    return all;
  }();
  return names;
}

std::string name_of(const ModelFamily& family) {
  return families()[family.index()].name;
}

std::optional<ModelFamily> family_of(const std::string& name) {
  const auto found = std::ranges::find(families(), name, &Family::name);
  return found == families().end() ? std::nullopt : std::optional(found->fresh);
}

std::vector<LayerInfo> layers_of(const ModelFamily& family) {
  return std::visit([](const auto& config) { return layers(config); }, family);
}

ModelSizes sizes_of(const ModelFamily& family) {
  return std::visit([](const auto& config) { return sizes(config); }, family);
}

}  // namespace headrace
