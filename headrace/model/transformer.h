// Transformers (plan/transformer.h), with how each of their layers is built.
#pragma once

#include <vector>

#include "headrace/model/layer.h"
#include "headrace/plan/transformer.h"

namespace headrace {

// Throws as transformer_layers() does.
std::vector<LayerSpec> transformer(const TransformerConfig& config);

}  // namespace headrace
