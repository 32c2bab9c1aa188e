#include "headrace/tokenizer/byte_level.h"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "headrace/tokenizer/unicode.h"

namespace headrace {
namespace {

constexpr char32_t kShifted = 0x100;  // the first character of bytes that are not printable

struct Table {
  std::array<char32_t, 256> character{};
  std::array<int, 0x200> byte{};  // -1: no byte's

  constexpr Table() {
    byte.fill(-1);
    char32_t next = kShifted;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xff && b != 0xad);
      const char32_t c = printable ? static_cast<char32_t>(b) : next++;
      character.at(static_cast<std::size_t>(b)) = c;
      byte.at(c) = b;
    }
  }
};
constexpr Table kTable;

}  // namespace

void append_byte_level(std::string& text, std::string_view bytes) {
  for (const char b : bytes) {
    const char32_t c = kTable.character[static_cast<unsigned char>(b)];
    if (c < 0x80) {
      text.push_back(static_cast<char>(c));
    } else {
      text.push_back(static_cast<char>(0xc0 | c >> 6));
      text.push_back(static_cast<char>(0x80 | (c & 0x3f)));
    }
  }
}

std::string to_byte_level(std::string_view bytes) {
  std::string text;
  append_byte_level(text, bytes);
  return text;
}

void append_from_byte_level(std::string& bytes, std::string_view token) {
  const std::size_t before = bytes.size();
  for (std::size_t at = 0; at < token.size();) {
    const CodePoint c = code_point(token, at);
    at += c.size;
    const int byte = c.value < kTable.byte.size() ? kTable.byte.at(c.value) : -1;
    if (byte < 0) {
      bytes.resize(before);
      bytes += token;
      return;
    }
    bytes.push_back(static_cast<char>(byte));
  }
}

}  // namespace headrace
