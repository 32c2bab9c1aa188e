// Any bytes as a tokenizer.json, and what follows its first line as a text to encode. What was encoded
// can be decoded, and has the same ids again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "headrace/base/error.h"
#include "headrace/tokenizer/tokenizer_json.h"
#include "tests/fuzz/text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input = headrace::text_of(data, size);
  const std::size_t line = input.find('\n');
  const std::string_view text = line == std::string_view::npos ? "" : input.substr(line + 1);
  try {
    const auto tokenizer = headrace::parse_tokenizer_json(input.substr(0, line), "fuzz");
    const auto ids = tokenizer->encode(text, headrace::SpecialTokens::With);
    headrace::require(ids == tokenizer->encode(text, headrace::SpecialTokens::With));
    tokenizer->decode(ids);
    tokenizer->decode(ids, headrace::SpecialTokens::Without);
  } catch (const headrace::Error&) {  // refused
  }
  return 0;
}
