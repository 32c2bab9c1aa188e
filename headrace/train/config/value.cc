#include "headrace/train/config/value.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <variant>

#include "headrace/base/error.h"

namespace headrace {
namespace {

std::string number_text(double number) {
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  std::string text(buffer.data(), end);
  // TOML takes a number for a real one by its point or exponent.
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += cat('\\', c);
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04X", static_cast<unsigned>(c));
      out += escape.data();
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

std::string describe(const Value& value) {
  struct Describe {
    std::string operator()(bool b) const { return b ? "true" : "false"; }
    std::string operator()(std::int64_t n) const { return cat("the whole number ", n); }
    std::string operator()(double x) const { return "the number " + number_text(x); }
    std::string operator()(const std::string& s) const { return "the text " + in_quotes(s); }
    std::string operator()(const Value::List& list) const {
      return "the list " + toml_text({list});
    }
    std::string operator()(const Value::Foreign& foreign) const { return foreign.what; }
  };
  return std::visit(Describe(), value.is);
}

std::string toml_text(const Value& value) {
  struct Write {
    std::string operator()(bool b) const { return b ? "true" : "false"; }
    std::string operator()(std::int64_t n) const { return std::to_string(n); }
    std::string operator()(double x) const { return number_text(x); }
    std::string operator()(const std::string& s) const { return in_quotes(s); }
    std::string operator()(const Value::List& list) const {
      std::string out = "[";
      for (const Value& item : list) out += (out.size() > 1 ? ", " : "") + toml_text(item);
      return out + "]";
    }
    std::string operator()(const Value::Foreign& foreign) const { return foreign.what; }
  };
  return std::visit(Write(), value.is);
}

}  // namespace headrace
