#include "headrace/base/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {
namespace {

template <class Number>
bool parse_all(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

using Unit = std::pair<std::string_view, double>;

// A number and a unit from the list; 1 where the unit is missing.
template <std::size_t N>
double parse_with_unit(std::string_view text,
                       std::string_view what,
                       const std::array<Unit, N>& units) {
  const std::string_view whole = trim(text);
  const std::size_t letters = whole.find_first_not_of("0123456789.+-eE");
  const std::string_view number = trim(whole.substr(0, letters));
  const std::string_view unit =
      letters == std::string_view::npos ? "" : trim(whole.substr(letters));
  double value = 0;
  std::string known;
  for (const auto& [name, factor] : units) {
    if (unit == name && parse_all(number, value)) return value * factor;
    if (!known.empty()) known += ", ";
    known += name;
  }
  check_usage(unit.empty() && parse_all(number, value), what, " is '", text,
              "'; it must be a number, with one of the units ", known);
  return value;
}

std::string printed(const char* format, double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, value);
  return buffer.data();
}

}  // namespace

std::int64_t parse_integer(std::string_view text, std::string_view what) {
  std::int64_t value = 0;
  check_usage(parse_all(trim(text), value), what, " is '", text, "'; it must be a whole number");
  return value;
}

double parse_number(std::string_view text, std::string_view what) {
  double value = 0;
  check_usage(parse_all(trim(text), value) && std::isfinite(value), what, " is '", text,
              "'; it must be a finite number");
  return value;
}

std::int64_t parse_bytes(std::string_view text, std::string_view what) {
  static constexpr std::array<Unit, 9> kUnits = {{{"B", 1},
                                                  {"KB", 1e3},
                                                  {"MB", 1e6},
                                                  {"GB", 1e9},
                                                  {"TB", 1e12},
                                                  {"KiB", 1024.0},
                                                  {"MiB", 1048576.0},
                                                  {"GiB", 1073741824.0},
                                                  {"TiB", 1099511627776.0}}};
  const double bytes = parse_with_unit(text, what, kUnits);
  check_usage(bytes >= 0 && bytes < 9e18, what, " is '", text, "'; it must be a size of 0 or more");
  return std::llround(bytes);
}

double parse_seconds(std::string_view text, std::string_view what) {
  static constexpr std::array<Unit, 6> kUnits = {
      {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"min", 60}, {"h", 3600}}};
  return parse_with_unit(text, what, kUnits);
}

std::vector<int> parse_list(std::string_view text, std::string_view what) {
  std::vector<int> values;
  for (const std::string& part : split_text(text, ',')) {
    int value = 0;
    check_usage(parse_all(trim(part), value), what, " is '", text,
                "'; it must be whole numbers with commas between, as 2,4,8");
    values.push_back(value);
  }
  return values;
}

std::string bytes_text(double bytes) {
  static constexpr std::array<std::string_view, 5> kUnits = {" B", " KiB", " MiB", " GiB", " TiB"};
  std::size_t unit = 0;
  while (std::abs(bytes) >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return printed(unit == 0 ? "%.0f" : "%.1f", bytes) + std::string(kUnits.at(unit));
}

std::string seconds_text(double seconds) {
  const double size = std::abs(seconds);
  if (size >= 7200) return printed("%.1f h", seconds / 3600);
  if (size >= 120) return printed("%.1f min", seconds / 60);
  if (size >= 1 || size == 0) return printed("%.2f s", seconds);
  if (size >= 1e-3) return printed("%.3g ms", seconds * 1e3);
  return printed("%.3g us", seconds * 1e6);
}

std::string count_text(std::int64_t count) {
  std::string digits = std::to_string(std::abs(count));
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return count < 0 ? "-" + digits : digits;
}

std::string number_text(double value) {
  return std::isnan(value) ? "nan" : cat(value);
}

std::string fixed_text(double value, int digits) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", digits, value);
  return buffer.data();
}

std::vector<std::string> split_text(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::string join_text(const std::vector<std::string>& parts, std::string_view separator) {
  std::string joined;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) joined += separator;
    joined += parts[i];
  }
  return joined;
}

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  // Levenshtein's distance, one row at a time. A suggestion further than a third of the word is no
  // help.
  const auto distance = [word](std::string_view other) {
    std::vector<std::size_t> row(other.size() + 1);
    for (std::size_t j = 0; j <= other.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i);
      for (std::size_t j = 1; j <= other.size(); ++j) {
        const std::size_t substituted = diagonal + (word[i - 1] == other[j - 1] ? 0 : 1);
        diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, substituted}));
      }
    }
    return row.back();
  };
  std::string best;
  std::size_t least = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t d = distance(candidate);
    if (d < least) {
      least = d;
      best = candidate;
    }
  }
  return best;
}

}  // namespace headrace
