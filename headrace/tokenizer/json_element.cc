#include "headrace/tokenizer/json_element.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/strict_json.h"
#include "headrace/tokenizer/regex.h"
#include "headrace/tokenizer/unicode.h"

namespace headrace {
namespace {

using Json = nlohmann::json;

const Json& empty_object() {
  static const Json empty = Json::object();
  return empty;
}

bool is_text(const Json& json) {
  return json.is_string();
}

bool is_boolean(const Json& json) {
  return json.is_boolean();
}

}  // namespace

JsonElement::JsonElement(const Json& json, std::string place, FileFaults& faults)
    : object_(&json), place_(std::move(place)), faults_(&faults) {
  if (!faults.check(json.is_object(), place_.empty() ? "it" : place_, " is not an object"))
    object_ = &empty_object();
}

std::string JsonElement::place(const std::string& key) const {
  return place_.empty() ? key : cat(place_, ".", key);
}

bool JsonElement::check(bool ok, const std::string& key, const std::string& what) {
  return faults_->check(ok, place(key), " ", what);
}

const Json* JsonElement::find(const std::string& key) {
  known_.insert(key);
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

const Json* JsonElement::at(const std::string& key) {
  const Json* found = find(key);
  check(found != nullptr, key, "is missing");
  return found;
}

template <class T, class Is>
T JsonElement::value(const std::string& key, const Is& is, const char* kind, T instead) {
  const Json* found = find(key);
  if (found == nullptr) return instead;
  if (!is(*found)) {
    check(false, key, cat("must be ", kind, "; it is ", excerpt(found->dump())));
    return instead;
  }
  return found->template get<T>();
}

std::string JsonElement::text(const std::string& key) {
  return at(key) == nullptr ? "" : text(key, "");
}

std::string JsonElement::text(const std::string& key, const std::string& fallback) {
  return value(key, is_text, "text", fallback);
}

std::optional<std::string> JsonElement::text_or_none(const std::string& key) {
  if (find(key) == nullptr) return std::nullopt;
  return text(key);
}

bool JsonElement::boolean(const std::string& key) {
  return at(key) != nullptr && boolean(key, false);
}

bool JsonElement::boolean(const std::string& key, bool fallback) {
  return value(key, is_boolean, "true or false", fallback);
}

std::size_t JsonElement::natural(const std::string& key, std::size_t most) {
  if (at(key) == nullptr) return 0;
  const auto fits = [&](const Json& json) {
    return json.is_number_unsigned() && json.get<std::uint64_t>() <= most;
  };
  return value(key, fits, cat("a whole number from 0 to ", most).c_str(), std::size_t{0});
}

char32_t JsonElement::character(const std::string& key) {
  return at(key) == nullptr ? U' ' : character(key, U' ');
}

char32_t JsonElement::character(const std::string& key, char32_t fallback) {
  if (find(key) == nullptr) return fallback;
  const std::string one = text(key);
  if (!check(count_code_points(one) == 1, key, cat("must be one character; it is ", excerpt(one))))
    return fallback;
  return code_point(one, 0).value;
}

std::size_t JsonElement::word(const std::string& key,
                              std::span<const char* const> words,
                              std::optional<std::size_t> fallback) {
  if (fallback.has_value() && find(key) == nullptr) return *fallback;
  const std::string given = text(key);
  std::string known;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (given == words[i]) return i;
    known += cat(known.empty() ? "" : ", ", words[i]);
  }
  if (!given.empty()) check(false, key, cat("is ", excerpt(given), "; known: ", known));
  return 0;
}

std::optional<Regex> JsonElement::pattern(const std::string& key) {
  if (at(key) == nullptr) return std::nullopt;
  std::optional<JsonElement> holder = child(key);
  if (!holder.has_value()) return std::nullopt;
  const auto text = holder->text_or_none("String");
  const auto regex = holder->text_or_none("Regex");
  holder->require_no_more();
  if (!check(text.has_value() != regex.has_value(), key, "must hold one of String and Regex"))
    return std::nullopt;
  const std::string& given = text.has_value() ? *text : *regex;
  if (!check(!given.empty(), key, "is empty")) return std::nullopt;
  try {
    return text.has_value() ? Regex::of_text(given) : Regex::of_pattern(given);
  } catch (const UsageError& error) {
    check(false, key, cat("cannot be used: ", error.what()));
    return std::nullopt;
  }
}

std::optional<JsonElement> JsonElement::child(const std::string& key) {
  const Json* found = find(key);
  if (found == nullptr) return std::nullopt;
  return JsonElement(*found, place(key), *faults_);
}

std::vector<JsonElement> JsonElement::children(const std::string& key) {
  std::vector<JsonElement> all;
  const Json* found = at(key);
  if (found == nullptr || !check(found->is_array(), key, "must be a list")) return all;
  for (std::size_t i = 0; i < found->size(); ++i)
    all.emplace_back((*found)[i], cat(place(key), "[", i, "]"), *faults_);
  return all;
}

void JsonElement::require_no_more() {
  for (const auto& [key, value] : object_->items())
    if (!known_.contains(key))
      check(false, excerpt(key), cat("is not known; it is ", excerpt(value.dump())));
}

}  // namespace headrace
