// Models as transformers has them: what it calls our parameters, and config.json.
//
//   const Naming naming = naming_of(config);
//   const TransformerConfig config = parse_config_json(read_file("gpt2/config.json"), "gpt2/config.json");
//
// A config.json is read strictly: UsageError names every setting that would change the mathematics to what is not done
// here.
#pragma once

#include <string>

#include "headrace/plan/transformer.h"
#include "headrace/tensor/naming.h"

namespace headrace {

Naming naming_of(const TransformerConfig& config);
std::string config_json(const TransformerConfig& config);
// The same, with what another config.json says of special tokens and ours knows nothing of.
std::string config_json(const TransformerConfig& config, const std::string& theirs);
// Filled in; a window shorter than its context is no fault yet, as the context may be shortened. `name` stands in
// messages for the file.
TransformerConfig parse_config_json(const std::string& json, const std::string& name);

}  // namespace headrace
