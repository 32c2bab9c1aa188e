// Regular expressions over UTF-8 (PCRE2).
//
//   const Regex regex = Regex::of_pattern(R"(\p{L}+|\s+)");
//   RegexMatches matches(regex, "to be");
//   while (matches.next()) use(matches.begin(), matches.end());   // 0 2, 2 3, 3 5
//
// Throws UsageError for a pattern that is not understood, and Error for a text on which a pattern
// would take steps or memory without end.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "headrace/tokenizer/unicode.h"

namespace headrace {

class Regex {
 public:
  static Regex of_pattern(std::string_view pattern);  // of tokenizer.json: regex_syntax.h
  static Regex of_text(std::string_view text);        // that stands for itself
  static Regex of_pcre2(const std::string& pattern);  // of ours
  Regex(Regex&& other) noexcept;
  Regex& operator=(Regex&& other) noexcept;
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex();

 private:
  friend class RegexMatches;
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

// One after the other through a text of valid UTF-8, both of which it refers to. An empty match is
// none where the last one ended.
class RegexMatches {
 public:
  RegexMatches(const Regex& regex, std::string_view text);
  RegexMatches(const RegexMatches&) = delete;
  RegexMatches& operator=(const RegexMatches&) = delete;
  ~RegexMatches();

  bool next();
  // In bytes, of the match that `next` found.
  std::size_t begin() const { return begin_; }
  std::size_t end() const { return end_; }

 private:
  struct State;
  bool search();

  const Regex* regex_;
  std::string_view text_;
  std::unique_ptr<State> state_;
  std::size_t from_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t last_end_ = std::string_view::npos;
};

// Calls each(begin, end, matches) for the matches and for what lies between them, in order.
template <class Each>
void for_each_segment(const Regex& regex, std::string_view text, const Each& each) {
  std::size_t done = 0;
  RegexMatches matches(regex, text);
  while (matches.next()) {
    if (matches.begin() > done) each(done, matches.begin(), false);
    each(matches.begin(), matches.end(), true);
    done = matches.end();
  }
  if (done < text.size()) each(done, text.size(), false);
}

// The same where each code point that is `wanted` is a match.
template <class Wanted, class Each>
void for_each_segment_of(const Wanted& wanted, std::string_view text, const Each& each) {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = code_point(text, at);
    if (wanted(c.value)) {
      if (at > done) each(done, at, false);
      each(at, at + c.size, true);
      done = at + c.size;
    }
    at += c.size;
  }
  if (done < text.size()) each(done, text.size(), false);
}

}  // namespace headrace
