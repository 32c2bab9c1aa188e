// The files of a tokenizer, for the folders of checkpoints: what serves the model finds it there.
#pragma once

#include <map>
#include <string>

#include "headrace/train/config/config.h"

namespace headrace {

// By name, the texts of those that data.tokenizer names, or, where it names none, that lie in the folder of model.from.
std::map<std::string, std::string> tokenizer_files(const Config& config);

}  // namespace headrace
