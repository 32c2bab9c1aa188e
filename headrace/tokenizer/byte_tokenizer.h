// One id a byte: any text in any encoding, and a vocabulary that no file has to hold.
//
//   ByteTokenizer().encode("Hi") == std::vector<std::int32_t>{72, 105};
//
// A token's text is its byte.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/tokenizer/tokenizer.h"

namespace headrace {

class ByteTokenizer : public Tokenizer {
 public:
  std::string name() const override { return "byte"; }
  int vocabulary() const override { return 256; }
  std::optional<std::int32_t> id_of(std::string_view token) const override;

 private:
  std::vector<std::int32_t> encode_text(std::string_view text,
                                        SpecialTokens special) const override;
  std::string decode_ids(std::span<const std::int32_t> ids, SpecialTokens special) const override;
};

}  // namespace headrace
