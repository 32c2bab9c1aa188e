// Tokens and their ids, which are 0 to the number of tokens.
//
//   Vocabulary vocabulary({"a", "b", "ab"});
//   vocabulary.find("ab") == 2;   vocabulary.find("c") == -1;   vocabulary.token(0) == "a";
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "headrace/tokenizer/json_element.h"

namespace headrace {

class Vocabulary {
 public:
  Vocabulary() = default;
  // None twice.
  explicit Vocabulary(std::vector<std::string> tokens);
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  std::int32_t find(std::string_view token) const {  // -1: not there
    const auto found = ids_.find(token);
    return found == ids_.end() ? -1 : found->second;
  }
  const std::string& token(std::int32_t id) const { return tokens_[static_cast<std::size_t>(id)]; }
  std::int32_t size() const { return static_cast<std::int32_t>(tokens_.size()); }

 private:
  struct Hash {
    std::size_t operator()(std::string_view text) const;
  };

  std::vector<std::string> tokens_;
  std::unordered_map<std::string_view, std::int32_t, Hash> ids_;  // of tokens_'s own texts
};

// {"a": 0, "b": 1, …}, in any order. Holes, duplicates and what is no id are noted as faults.
Vocabulary read_vocabulary(const nlohmann::json* json,
                           const std::string& place,
                           FileFaults& faults);

}  // namespace headrace
