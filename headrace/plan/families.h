// The families of models that a configuration can name, and what is asked of a model whichever it is
// of. A new one is an alternative here and a row in families.cc, its layers beside gpt_layers, and how
// they are built in model/families.
//
//   ModelFamily family = GptConfig{.layers = 4};
//   std::vector<LayerInfo> layers = layers_of(family);
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "headrace/plan/gpt_layers.h"
#include "headrace/plan/layers.h"

namespace headrace {

using ModelFamily = std::variant<GptConfig>;

// "gpt", …, in the order of the alternatives.
const std::vector<std::string>& family_names();
std::string name_of(const ModelFamily& family);
// With that family's defaults; nothing for a name that is none.
std::optional<ModelFamily> family_of(const std::string& name);

// Throws UsageError, whose text begins with the field's name, where the sizes do not fit.
std::vector<LayerInfo> layers_of(const ModelFamily& family);

// What a model is of, in all families.
struct ModelSizes {
  int blocks = 0;
  int context = 0;  // tokens a sequence
  int vocabulary = 0;
  bool tied = false;
};

ModelSizes sizes_of(const ModelFamily& family);

}  // namespace headrace
