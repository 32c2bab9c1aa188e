// GPT as transformers has it: GPT2LMHeadModel's names of our parameters, and its config.json. hugging_face.h chooses
// among families.
#pragma once

#include <string>

#include "headrace/model/hugging_face/fields.h"
#include "headrace/plan/transformer.h"
#include "headrace/tensor/naming.h"

namespace headrace {

Naming gpt2_naming(const TransformerConfig& config);
std::string gpt2_config_json(const TransformerConfig& config);
TransformerConfig parse_gpt2_config(ConfigFields& fields);

}  // namespace headrace
