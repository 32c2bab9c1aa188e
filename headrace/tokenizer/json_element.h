// An object of a tokenizer.json, read field by field. For .cc files that include nlohmann/json.hpp
// themselves.
//
//   JsonElement split(json, "pre_tokenizer.pretokenizers[0]", faults);
//   const bool invert = split.boolean("invert", false);
//   split.require_no_more();
//
// What is wrong is noted, with its place, and reading goes on with a value that stands in: nothing
// that was read may be used before Faults::require_none.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "headrace/base/error.h"
#include "headrace/base/faults.h"
#include "headrace/tokenizer/regex.h"

namespace headrace {

// Faults of one file, of which only the first are kept: a vocabulary may have a hundred thousand.
class FileFaults {
 public:
  explicit FileFaults(std::string file) : file_(std::move(file)) {}
  template <class... Parts>
  bool check(bool ok, const Parts&... parts) {
    if (!ok && ++count_ <= kMost) faults_.check(false, file_, ": ", parts...);
    return ok;
  }
  const std::string& file() const { return file_; }
  bool none() const { return count_ == 0; }
  void require_none() {
    if (count_ > kMost) faults_.check(false, file_, ": and ", count_ - kMost, " faults more");
    faults_.require_none();
  }

 private:
  static constexpr std::size_t kMost = 12;
  std::string file_;
  std::size_t count_ = 0;
  Faults faults_;
};

class JsonElement {
 public:
  // Both must outlive it.
  JsonElement(const nlohmann::json& json, std::string place, FileFaults& faults);

  // Without a fallback the field must be there.
  std::string text(const std::string& key);
  std::string text(const std::string& key, const std::string& fallback);
  std::optional<std::string> text_or_none(const std::string& key);  // null or not there: none
  bool boolean(const std::string& key);
  bool boolean(const std::string& key, bool fallback);
  std::size_t natural(const std::string& key, std::size_t most);
  char32_t character(const std::string& key);
  char32_t character(const std::string& key, char32_t fallback);
  // One of a few words, by its place in the list.
  std::size_t word(const std::string& key,
                   std::span<const char* const> words,
                   std::optional<std::size_t> fallback = std::nullopt);
  // {"String": "…"} or {"Regex": "…"}.
  std::optional<Regex> pattern(const std::string& key);

  const nlohmann::json* find(const std::string& key);  // null: not there, or null
  std::optional<JsonElement> child(const std::string& key);
  std::vector<JsonElement> children(const std::string& key);

  bool check(bool ok, const std::string& key, const std::string& what);
  void require_no_more();
  FileFaults& faults() { return *faults_; }
  std::string place(const std::string& key) const;

 private:
  const nlohmann::json* at(const std::string& key);
  template <class T, class Is>
  T value(const std::string& key, const Is& is, const char* kind, T instead);

  const nlohmann::json* object_;
  std::string place_;
  FileFaults* faults_;
  std::set<std::string> known_;
};

// A kind of element, by its field `type`.
template <class Part>
struct ElementKind {
  const char* type;
  std::unique_ptr<Part> (*read)(JsonElement&);
};

// Null where it is noted what is wrong.
template <class Part>
std::unique_ptr<Part> read_kind(JsonElement& element, std::span<const ElementKind<Part>> kinds) {
  const std::string type = element.text("type");
  std::string known;
  for (const ElementKind<Part>& kind : kinds) {
    if (type == kind.type) {
      auto part = kind.read(element);
      element.require_no_more();
      return part;
    }
    known += cat(known.empty() ? "" : ", ", kind.type);
  }
  if (!type.empty()) element.check(false, "type", cat("is '", type, "'; known: ", known));
  return nullptr;
}

}  // namespace headrace
