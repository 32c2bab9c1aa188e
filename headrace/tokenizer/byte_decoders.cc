#include <charconv>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/tokenizer/byte_level.h"
#include "headrace/tokenizer/decoder.h"
#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/unicode.h"

namespace headrace {
namespace {

class ByteLevelDecoder : public Decoder {
 public:
  std::vector<std::string> decode(std::vector<std::string> tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) append_from_byte_level(bytes, token);
    return {replace_invalid_utf8(bytes)};
  }
};

// "<0x0A>" is byte 10.
std::optional<char> named_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(value);
}

// Bytes that follow one another are one part; where they are no UTF-8, each becomes U+FFFD.
class ByteFallbackDecoder : public Decoder {
 public:
  std::vector<std::string> decode(std::vector<std::string> tokens) const override {
    std::vector<std::string> parts;
    std::string bytes;
    const auto end_of_bytes = [&] {
      if (bytes.empty()) return;
      if (invalid_utf8(bytes).has_value()) {
        parts.insert(parts.end(), bytes.size(), "\xef\xbf\xbd");
      } else {
        parts.push_back(bytes);
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const std::optional<char> byte = named_byte(token)) {
        bytes.push_back(*byte);
      } else {
        end_of_bytes();
        parts.push_back(std::move(token));
      }
    }
    end_of_bytes();
    return parts;
  }
};

}  // namespace

std::unique_ptr<Decoder> read_byte_level_decoder(JsonElement& element) {
  // They speak of pre-tokenizing; the same element may stand in all three places.
  for (const char* key : {"add_prefix_space", "trim_offsets", "use_regex"})
    element.boolean(key, true);
  return std::make_unique<ByteLevelDecoder>();
}

std::unique_ptr<Decoder> read_byte_fallback_decoder(JsonElement& /*element*/) {
  return std::make_unique<ByteFallbackDecoder>();
}

}  // namespace headrace
