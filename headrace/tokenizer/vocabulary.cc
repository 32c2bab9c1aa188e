#include "headrace/tokenizer/vocabulary.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#define XXH_INLINE_ALL
#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "headrace/base/strict_json.h"
#include "headrace/tokenizer/json_element.h"

namespace headrace {

std::size_t Vocabulary::Hash::operator()(std::string_view text) const {
  return XXH3_64bits(text.data(), text.size());
}

Vocabulary::Vocabulary(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
  ids_.reserve(tokens_.size());
  for (std::size_t i = 0; i < tokens_.size(); ++i)
    ids_.emplace(tokens_[i], static_cast<std::int32_t>(i));
}

Vocabulary read_vocabulary(const nlohmann::json* json,
                           const std::string& place,
                           FileFaults& faults) {
  if (!faults.check(json != nullptr, place, " is missing") ||
      !faults.check(json->is_object(), place, " must be tokens with their ids") ||
      !faults.check(!json->empty(), place, " is empty"))
    return {};
  std::vector<const std::string*> holders(json->size(), nullptr);  // of each id
  const auto fault = [&](const std::string& token, const auto&... what) {
    faults.check(false, place, ": ", excerpt(token), what...);
  };
  for (const auto& [token, id] : json->get_ref<const nlohmann::json::object_t&>()) {
    if (!id.is_number_integer()) {
      fault(token, " has ", excerpt(id.dump()), " for an id");
    } else if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= json->size()) {
      fault(token, " has the id ", id.dump(), ", and ", json->size(), " tokens have the ids 0 to ",
            json->size() - 1);
    } else if (const std::string*& holder = holders[id.get<std::size_t>()]; holder != nullptr) {
      fault(token, " has the id ", id.dump(), ", as has ", excerpt(*holder));
    } else {
      holder = &token;
    }
  }
  std::vector<std::string> tokens(json->size());
  for (std::size_t i = 0; i < holders.size(); ++i)
    if (faults.check(holders[i] != nullptr, place, ": no token has the id ", i))
      tokens[i] = *holders[i];
  return Vocabulary(std::move(tokens));
}

}  // namespace headrace
