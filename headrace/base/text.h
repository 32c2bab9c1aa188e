// Numbers and units, as people write and read them.
//
//   parse_bytes("4GiB") == 4294967296;    parse_seconds("12ms") == 0.012;
//   parse_list("2,4,8") == {2, 4, 8};
//   bytes_text(1536) == "1.5 KiB";        seconds_text(0.0123) == "12.3 ms";
//
// The parsers throw UsageError that quotes the text and says what is understood; `what` names the
// setting.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace headrace {

std::int64_t parse_integer(std::string_view text, std::string_view what);
double parse_number(std::string_view text, std::string_view what);
// A number and one of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB; bytes where there is no unit.
std::int64_t parse_bytes(std::string_view text, std::string_view what);
// A number and one of ns, us, ms, s, min, h; seconds where there is no unit.
double parse_seconds(std::string_view text, std::string_view what);
std::vector<int> parse_list(std::string_view text, std::string_view what);

std::string bytes_text(double bytes);
std::string seconds_text(double seconds);
std::string count_text(std::int64_t count);  // 1,234,567
std::string fixed_text(double value, int digits);
std::string number_text(double value);  // a NaN is "nan" whatever its sign

std::vector<std::string> split_text(std::string_view text, char separator);
std::string join_text(const std::vector<std::string>& parts, std::string_view separator);
std::string_view trim(std::string_view text);

// The candidate nearest to a mistyped word (least edit distance); empty where none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace headrace
