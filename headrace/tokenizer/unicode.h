// Code points and what Unicode says of them, as tokenizers ask (utf8proc, Unicode 14 or newer).
//
//   for (std::size_t at = 0; at < text.size();) { const CodePoint c = code_point(text, at); at += c.size; }
//   normal_form("e\u0301", NormalForm::Nfc) == "\u00e9";
//
// Functions of text ask for valid UTF-8, which `invalid_utf8` finds out. Throw Error where memory or
// utf8proc fails.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace headrace {

struct CodePoint {
  char32_t value;
  std::size_t size;  // bytes
};

// The position of the first byte that is not UTF-8.
std::optional<std::size_t> invalid_utf8(std::string_view text);
// Each longest beginning of a sequence that does not go on becomes one U+FFFD (The Unicode Standard,
// 3.9, "maximal subparts").
std::string replace_invalid_utf8(std::string_view text);

CodePoint code_point(std::string_view text, std::size_t at);
CodePoint last_code_point(std::string_view text);
void append_utf8(std::string& text, char32_t value);
std::string utf8(char32_t value);
std::size_t count_code_points(std::string_view text);

bool is_white_space(char32_t c);      // White_Space
bool is_punctuation(char32_t c);      // P, and ASCII's symbols
bool is_numeric(char32_t c);          // N
bool is_mark(char32_t c);             // M
bool is_nonspacing_mark(char32_t c);  // Mn
bool is_control(char32_t c);          // Cc, Cf, Co

// Each code point by itself: a sigma at the end of a word is as any other.
std::string lower_case(std::string_view text);

enum class NormalForm { Nfc, Nfd, Nfkc, Nfkd };
// UAX 15.
std::string normal_form(std::string_view text, NormalForm form);

}  // namespace headrace
