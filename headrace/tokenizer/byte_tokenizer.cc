#include "headrace/tokenizer/byte_tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {

std::optional<std::int32_t> ByteTokenizer::id_of(std::string_view token) const {
  if (token.size() != 1) return std::nullopt;
  return static_cast<unsigned char>(token[0]);
}

std::vector<std::int32_t> ByteTokenizer::encode_text(std::string_view text,
                                                     SpecialTokens /*special*/) const {
  std::vector<std::int32_t> ids;
  ids.reserve(text.size());
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

std::string ByteTokenizer::decode_ids(std::span<const std::int32_t> ids,
                                      SpecialTokens /*special*/) const {
  std::string text;
  text.reserve(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    check(ids[i] >= 0 && ids[i] < vocabulary(), "token ", i, " to decode has id ", ids[i],
          "; ids of the byte tokenizer are 0 to ", vocabulary() - 1);
    text.push_back(static_cast<char>(ids[i]));
  }
  return text;
}

}  // namespace headrace
