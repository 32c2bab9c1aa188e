#include "headrace/train/config/keys.h"

#include <algorithm>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/train/config/sections.h"

namespace headrace {

const std::vector<Key>& keys() {
  static const std::vector<Key> table = [] {
    std::vector<Key> rows;
    add_model_keys(rows);
    add_data_keys(rows);
    add_train_keys(rows);
    add_optimizer_keys(rows);
    add_evaluate_keys(rows);
    add_pipeline_keys(rows);
    add_checkpoint_keys(rows);
    return rows;
  }();
  return table;
}

const std::vector<std::string>& sections() {
  static const std::vector<std::string> names = {"model",    "data",     "train",     "optimizer",
                                                 "evaluate", "pipeline", "checkpoint"};
  return names;
}

const Key* find_key(const std::string& section, const std::string& name) {
  const auto found = std::find_if(keys().begin(), keys().end(), [&](const Key& key) {
    return key.section == section && key.name == name;
  });
  return found == keys().end() ? nullptr : &*found;
}

void set_key(const Key& key, Config& config, const Value& value, const std::string& where) {
  check_usage(key.set(config, value), where, key.name, " in [", key.section, "] must be ",
              key.expected, ", and is ", describe(value), key.hint(value));
}

bool is_unset(const Key& key, const Config& config) {
  const Value value = key.get(config);
  Config scratch;
  return value == key.get(scratch) && !key.set(scratch, value);
}

}  // namespace headrace
