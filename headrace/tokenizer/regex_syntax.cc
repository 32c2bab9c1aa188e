#include "headrace/tokenizer/regex_syntax.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>

#include "headrace/base/error.h"
#include "headrace/base/strict_json.h"

namespace headrace {
namespace {

// What Oniguruma's \w has besides, by its table of Latin-1.
constexpr std::string_view kLatinNumbers = R"(\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";

// Properties that both know by these names; another name is taken for a script's.
constexpr std::array<std::string_view, 45> kProperties = {
    "Any",         "Alphabetic", "Lowercase", "Uppercase", "Emoji",
    "Ideographic", "Cased",      "C",         "Cc",        "Cf",
    "Cn",          "Co",         "Cs",        "L",         "Ll",
    "Lm",          "Lo",         "Lt",        "Lu",        "M",
    "Mc",          "Me",         "Mn",        "N",         "Nd",
    "Nl",          "No",         "P",         "Pc",        "Pd",
    "Pe",          "Pf",         "Pi",        "Po",        "Ps",
    "S",           "Sc",         "Sk",        "Sm",        "So",
    "Z",           "Zl",         "Zp",        "Zs",        "Extended_Pictographic"};

class Translation {
 public:
  explicit Translation(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_member(c);
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        open_group();
      } else if (c == '{') {
        interval();
      } else {
        keep(1);
      }
    }
    return out_;
  }

 private:
  void require(bool ok, std::string_view what) const {
    check_usage(ok, what, " at byte ", at_, " of the pattern ", excerpt(pattern_),
                " is not understood");
  }
  char ahead(std::size_t by) const {
    return at_ + by < pattern_.size() ? pattern_[at_ + by] : '\0';
  }
  void keep(std::size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }
  void put(std::string_view text, std::size_t instead_of) {
    out_ += text;
    at_ += instead_of;
  }
  void set(std::string_view members) {
    if (in_class_) {
      put(members, 2);
    } else {
      put(cat("[", members, "]"), 2);
    }
  }

  void escape() {
    const char c = ahead(1);
    require(c != '\0', "a backslash at the end");
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) return keep(2);
    switch (c) {
      case 's':
        return set(kWhiteSpaceSet);
      case 'S':
        return set(R"(\P{White_Space})");
      case 'w':
        return set(cat(kWordSet, kLatinNumbers));
      case 'W':
        require(!in_class_, "\\W in a class");
        return put(cat("[^", kWordSet, kLatinNumbers, "]"), 2);
      case 'd':
      case 'D':
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        return keep(2);
      case 'v':
        return put("\\x0b", 2);
      case 'A':
      case 'z':
      case 'Z':
        require(!in_class_, "an anchor in a class");
        return keep(2);
      case 'p':
      case 'P':
        return property();
      case 'x':
      case 'u':
        return code();
      default:
        require(false, cat("\\", std::string_view(&c, 1)));
    }
  }

  void property() {
    require(ahead(2) == '{', "\\p without a name in braces");
    const std::size_t close = pattern_.find('}', at_);
    require(close != std::string_view::npos, "\\p{ without its end");
    std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    const bool opposite = name.starts_with('^');
    if (opposite) name.remove_prefix(1);
    const bool plain = std::ranges::find(kProperties, name) != kProperties.end();
    require(!name.empty() &&
                std::ranges::all_of(
                    name, [](unsigned char c) { return std::isalpha(c) != 0 || c == '_'; }),
            "a property's name");
    put(cat("\\", std::string_view(&pattern_[at_ + 1], 1), "{", opposite ? "^" : "",
            plain ? "" : "sc:", name, "}"),
        close + 1 - at_);
  }

  // \xHH below 80, \x{H…}, \uHHHH.
  void code() {
    const bool braces = ahead(1) == 'x' && ahead(2) == '{';
    const std::size_t begin = at_ + (braces ? 3 : 2);
    std::size_t end = begin;
    const std::size_t most = braces ? 8 : ahead(1) == 'u' ? 4 : 2;
    while (end < pattern_.size() && end - begin < most &&
           std::isxdigit(static_cast<unsigned char>(pattern_[end])) != 0)
      ++end;
    const std::string_view digits = pattern_.substr(begin, end - begin);
    require(braces ? !digits.empty() && end < pattern_.size() && pattern_[end] == '}'
                   : digits.size() == most,
            "the number of a code point");
    require(most != 2 || digits[0] < '8', "a byte that is no character");
    put(cat("\\x{", digits, "}"), end - at_ + (braces ? 1 : 0));
  }

  void open_class() {
    in_class_ = true;
    keep(ahead(1) == '^' ? 2 : 1);
    require(ahead(0) != ']', "a class that begins with ]");
  }

  void class_member(char c) {
    require(c != '[', "a set in a set");
    require(c != '&' || ahead(1) != '&', "&&");
    if (c == ']') in_class_ = false;
    keep(1);
  }

  void open_group() {
    if (ahead(1) != '?') {
      require(ahead(1) != '*', "(*");
      return keep(1);
    }
    for (const std::string_view known :
         {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?-i:"})
      if (pattern_.substr(at_).starts_with(known)) return keep(known.size());
    // Elsewhere than at the start it would hold for another part of the pattern.
    require(at_ == 0 && pattern_.starts_with("(?i)"), "a group's kind");
    keep(4);
  }

  void interval() {
    const std::size_t close = pattern_.find('}', at_);
    const std::string_view inside =
        pattern_.substr(at_ + 1, close == std::string_view::npos ? 0 : close - at_ - 1);
    require(!inside.empty() && std::isdigit(static_cast<unsigned char>(inside[0])) != 0 &&
                std::ranges::all_of(
                    inside, [](unsigned char c) { return std::isdigit(c) != 0 || c == ','; }),
            "{ that begins no interval");
    keep(inside.size() + 2);
    require(ahead(0) != '+', "a possessive interval");
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

std::string pcre2_pattern(std::string_view pattern) {
  return Translation(pattern).run();
}

std::string pattern_of_text(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::ispunct(static_cast<unsigned char>(c)) != 0) pattern.push_back('\\');
    if (c == '\0') {
      pattern += "\\x00";
    } else {
      pattern.push_back(c);
    }
  }
  return pattern;
}

}  // namespace headrace
