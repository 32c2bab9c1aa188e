// GPT (plan/gpt_layers.h), with how each of its layers is built.
#pragma once

#include <vector>

#include "headrace/model/layer.h"
#include "headrace/plan/gpt_layers.h"

namespace headrace {

// Throws as gpt_layers() does.
std::vector<LayerSpec> gpt(const GptConfig& config);

}  // namespace headrace
