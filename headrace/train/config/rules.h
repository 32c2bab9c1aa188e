// What the keys of the configuration take. A rule says so in words, reads it from a Value (false: not
// that) and writes it back; Rows makes rows of the table of keys (keys.h) of them.
//
//   Rows data(table, "data", [](auto& c) -> auto& { return c.data; });
//   data("cache", &DataConfig::cache, Text{}, "folder of the token files made from `text`");
//
// Longer than most headers: a rule is a few lines, and there are ten.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/train/config/config.h"
#include "headrace/train/config/keys.h"
#include "headrace/train/config/value.h"

namespace headrace::rules {

struct Whole {
  std::int64_t low = 0;

  std::string expected() const { return cat("a whole number of ", low, " or more"); }
  template <class T>
  bool read(const Value& value, T& out) const {
    const auto* n = std::get_if<std::int64_t>(&value.is);
    if (n == nullptr || *n < low || !std::in_range<T>(*n)) return false;
    out = static_cast<T>(*n);
    return true;
  }
  template <class T>
  Value write(T n) const {
    return {std::in_range<std::int64_t>(n) ? static_cast<std::int64_t>(n) : -1};
  }
};

struct Number {
  double low = 0;
  double high = std::numeric_limits<double>::infinity();  // always left out
  bool above = false;                                     // low is left out as well

  std::string expected() const {
    std::string text = cat("a number ", above ? "above " : "of at least ", low);
    if (high < std::numeric_limits<double>::infinity()) text += cat(" and below ", high);
    return text;
  }
  bool read(const Value& value, double& out) const {
    double x = 0;
    if (const auto* number = std::get_if<double>(&value.is)) {
      x = *number;
    } else if (const auto* whole = std::get_if<std::int64_t>(&value.is)) {
      x = static_cast<double>(*whole);
    } else {
      return false;
    }
    if (!(above ? x > low : x >= low) || !(x < high)) return false;
    out = x;
    return true;
  }
  Value write(double x) const { return {x}; }
};

struct Seconds {
  // Some years: clocks count nanoseconds in 64 bits, and what is meant as "no limit" fits.
  static constexpr double kMost = 1e8;

  std::string expected() const {
    return "seconds above 0, at most 1e8, as 30, \"500ms\" or \"2min\"";
  }
  bool read(const Value& value, double& out) const {
    const Number number{.above = true};
    const auto* text = std::get_if<std::string>(&value.is);
    try {
      const Value seconds = text == nullptr ? value : Value{parse_seconds(*text, "")};
      return number.read(seconds, out) && out <= kMost;
    } catch (const UsageError&) {
      return false;
    }
  }
  Value write(double x) const { return {x}; }
};

struct Flag {
  std::string expected() const { return "true or false"; }
  bool read(const Value& value, bool& out) const {
    const auto* b = std::get_if<bool>(&value.is);
    if (b != nullptr) out = *b;
    return b != nullptr;
  }
  Value write(bool b) const { return {b}; }
};

struct Text {
  std::string expected() const { return "a text"; }
  bool read(const Value& value, std::string& out) const {
    const auto* text = std::get_if<std::string>(&value.is);
    if (text == nullptr || text->empty()) return false;
    out = *text;
    return true;
  }
  Value write(const std::string& text) const { return {text}; }
};

struct Choice {
  std::vector<std::string> words;

  std::string expected() const { return "one of \"" + join_text(words, "\", \"") + "\""; }
  bool read(const Value& value, std::string& out) const {
    const auto* text = std::get_if<std::string>(&value.is);
    if (text == nullptr || std::find(words.begin(), words.end(), *text) == words.end())
      return false;
    out = *text;
    return true;
  }
  Value write(const std::string& text) const { return {text}; }
  std::string hint(const Value& value) const {
    const auto* text = std::get_if<std::string>(&value.is);
    const std::string near = text == nullptr ? "" : nearest(*text, words);
    return near.empty() ? "" : cat("; did you mean \"", near, "\"?");
  }
};

template <class Rule>
struct ListOf {
  Rule rule;
  std::string what;

  std::string expected() const { return what; }
  template <class T>
  bool read(const Value& value, std::vector<T>& out) const {
    const auto* list = std::get_if<Value::List>(&value.is);
    if (list == nullptr || list->empty()) return false;
    std::vector<T> items(list->size());
    for (std::size_t i = 0; i < items.size(); ++i)
      if (!rule.read((*list)[i], items[i])) return false;
    out = std::move(items);
    return true;
  }
  template <class T>
  Value write(const std::vector<T>& items) const {
    Value::List list;
    for (const T& item : items) list.push_back(rule.write(item));
    return {std::move(list)};
  }
};

struct RecomputeRule {
  ListOf<Whole> stages{};

  std::string expected() const {
    return "\"none\", \"attention\", \"all\" or a list of stages, as [0, 2]";
  }
  bool read(const Value& value, RecomputeWish& out) const {
    for (const auto& [word, of_all] : kWords) {
      if (value != Value{std::string(word)}) continue;
      out = of_all;
      return true;
    }
    std::vector<int> listed;
    if (!stages.read(value, listed)) return false;
    out = listed;
    return true;
  }
  Value write(const RecomputeWish& wish) const {
    for (const auto& [word, of_all] : kWords)
      if (wish == RecomputeWish(of_all)) return {std::string(word)};
    return stages.write(std::get<std::vector<int>>(wish));
  }

  static constexpr std::array<std::pair<const char*, Recompute>, 3> kWords = {
      {{"none", Recompute::None}, {"attention", Recompute::Attention}, {"all", Recompute::All}}};
};

struct Replicas {
  ListOf<Whole> stages{.rule = {1}, .what = {}};

  std::string expected() const {
    return "a whole number of 1 or more, or a list of them, one a stage, as [3, 1]";
  }
  bool read(const Value& value, std::vector<int>& out) const {
    int all = 0;
    if (!stages.rule.read(value, all)) return stages.read(value, out);
    out = {all};
    return true;
  }
  Value write(const std::vector<int>& items) const {
    return items.size() == 1 ? stages.rule.write(items[0]) : stages.write(items);
  }
};

// The rows of one section.
template <class Within>
class Rows {
 public:
  using Part = std::remove_cvref_t<std::invoke_result_t<Within, Config&>>;

  // `within` finds the section's part in a configuration.
  Rows(std::vector<Key>& table, std::string section, Within within)
      : table_(table), section_(std::move(section)), within_(within) {}

  template <class T, class Rule>
  Key& operator()(std::string name, T Part::* member, Rule rule, std::string help) {
    const Within within = within_;
    Key key;
    key.section = section_;
    key.name = std::move(name);
    key.expected = rule.expected();
    key.help = std::move(help);
    key.set = [=](Config& config, const Value& value) {
      return rule.read(value, within(config).*member);
    };
    key.get = [=](const Config& config) { return rule.write(within(config).*member); };
    key.reset = [=](Config& config) { within(config).*member = Part().*member; };
    key.hint = [=](const Value& value) -> std::string {
      if constexpr (requires { rule.hint(value); }) return rule.hint(value);
      return "";
    };
    return table_.emplace_back(std::move(key));
  }

 private:
  std::vector<Key>& table_;
  std::string section_;
  Within within_;
};

}  // namespace headrace::rules
