// The texts of tokens put together to a text.
//
//   auto decoder = read_decoder(element);   // {"type": "WordPiece", "prefix": "##", "cleanup": true}
//   decoder->decode({"head", "##race"}) == std::vector<std::string>{"head", "race"};
//
// The text is the parts one after the other. Bytes that are no UTF-8 become U+FFFD.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "headrace/tokenizer/json_element.h"

namespace headrace {

class Decoder {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual ~Decoder() = default;
  virtual std::vector<std::string> decode(std::vector<std::string> tokens) const = 0;
};

// Null where the element's faults say why.
std::unique_ptr<Decoder> read_decoder(JsonElement& element);

// The kinds that turn names of bytes into bytes.
std::unique_ptr<Decoder> read_byte_level_decoder(JsonElement& element);
std::unique_ptr<Decoder> read_byte_fallback_decoder(JsonElement& element);

}  // namespace headrace
