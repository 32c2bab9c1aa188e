// A model's config.json of transformers, read strictly: a setting that would change the mathematics to what is not done
// here is a fault, and so is one that is not known.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "headrace/base/faults.h"
#include "headrace/base/strict_json.h"

namespace headrace {

class ConfigFields {
 public:
  // Throws Error where it is no JSON object. `name` stands in messages for the file.
  ConfigFields(const std::string& text, std::string name);

  std::string text(const char* key) { return fields_.text(key); }
  int size(const char* key);
  // Of a key that may be missing or null.
  int size_or(const char* key, int otherwise);
  double number_or(const char* key, double otherwise);
  bool flag_or(const char* key, bool otherwise);
  // In our words (plan/transformer.h).
  std::string activation_or(const char* key, const char* otherwise);
  const nlohmann::json* find(const char* key) { return fields_.find(key); }

  // Where the key is there it has one of the values; `ours` says what is done here.
  void require(const char* key, const std::vector<nlohmann::json>& allowed, const char* ours);
  template <class... Parts>
  void check(bool ok, const Parts&... parts) {
    faults_.check(ok, name_, ": ", parts...);
  }
  // All that is wrong, and what was not asked for: but what has no say in the logits of any model, and these.
  void finish(const std::vector<std::string_view>& without_say);

  const std::string& name() const { return name_; }

 private:
  const std::string name_;
  const nlohmann::json json_;
  JsonFields fields_;
  Faults faults_;
};

// Theirs for our name of an activation.
std::string their_activation(const std::string& ours);

}  // namespace headrace
