// Llama, Mistral, Qwen 2 and Qwen 3 as transformers has them: LlamaForCausalLM's names of our parameters (the others have
// the same), and their config.json. hugging_face.h chooses among families.
#pragma once

#include <string>

#include "headrace/model/hugging_face/fields.h"
#include "headrace/plan/transformer.h"
#include "headrace/tensor/naming.h"

namespace headrace {

Naming llama_naming(const TransformerConfig& config);
std::string llama_config_json(const TransformerConfig& config);
TransformerConfig parse_llama_config(Family family, ConfigFields& fields);

}  // namespace headrace
