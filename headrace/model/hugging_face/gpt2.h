// GPT as transformers has it: GPT2LMHeadModel's names of our parameters, and its config.json.
//
//   const Naming naming = gpt2_naming(config);
//   const GptConfig config = parse_gpt2_config(read_file("gpt2/config.json"), "gpt2/config.json");
//
// A config.json is read strictly: UsageError names every setting that would change the mathematics
// to what our GPT does not do.
#pragma once

#include <string>

#include "headrace/model/gpt.h"
#include "headrace/tensor/naming.h"

namespace headrace {

Naming gpt2_naming(const GptConfig& config);

std::string gpt2_config_json(const GptConfig& config);

// `name` stands in messages for the file.
GptConfig parse_gpt2_config(const std::string& json, const std::string& name);

}  // namespace headrace
