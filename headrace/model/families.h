// How a model of each family is built, and how transformers calls it (plan/families.h).
//
//   std::vector<LayerSpec> model = build(config.model.family);
//   const Naming naming = naming_of(config.model.family);
#pragma once

#include <string>
#include <vector>

#include "headrace/model/layer.h"
#include "headrace/plan/families.h"
#include "headrace/tensor/naming.h"

namespace headrace {

// Throws as layers_of() does.
std::vector<LayerSpec> build(const ModelFamily& family);

// Names of its parameters in files of Hugging Face, and its config.json.
Naming naming_of(const ModelFamily& family);
std::string config_json(const ModelFamily& family);
// Throws UsageError where it is of no family here, or asks for what ours does not do; `name` stands in
// messages for the file.
ModelFamily parse_config_json(const std::string& json, const std::string& name);

}  // namespace headrace
