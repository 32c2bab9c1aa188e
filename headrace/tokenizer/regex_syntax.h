// Patterns of tokenizer.json, which are Oniguruma's, as PCRE2 understands them.
//
//   pcre2_pattern(R"(\s+(?!\S)|\p{Han})")   // \s is White_Space, \p{sc:Han}
//
// What both read alike is kept; \s \S \w \W, scripts and \u are spelt out; what they read differently
// (\h, \R, \b, sets in sets, options in the middle, …) is refused. Throws UsageError that says what
// and where.
#pragma once

#include <string>
#include <string_view>

namespace headrace {

std::string pcre2_pattern(std::string_view pattern);

// The pattern of a text that stands for itself.
std::string pattern_of_text(std::string_view text);

// What classes of Unicode's words and white space hold, to be put in brackets.
inline constexpr std::string_view kWhiteSpaceSet = R"(\p{White_Space})";
inline constexpr std::string_view kWordSet = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

}  // namespace headrace
