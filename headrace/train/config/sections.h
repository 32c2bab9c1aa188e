// The keys of each section, a file a section.
#pragma once

#include <vector>

#include "headrace/train/config/keys.h"

namespace headrace {

void add_model_keys(std::vector<Key>& table);
void add_data_keys(std::vector<Key>& table);
void add_train_keys(std::vector<Key>& table);
void add_optimizer_keys(std::vector<Key>& table);
void add_evaluate_keys(std::vector<Key>& table);
void add_pipeline_keys(std::vector<Key>& table);
void add_checkpoint_keys(std::vector<Key>& table);

}  // namespace headrace
