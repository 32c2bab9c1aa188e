// JSON of others, read strictly and within bounded memory. For .cc files that include
// nlohmann/json.hpp themselves.
//
//   const nlohmann::json json = parse_json(read_file(path), path);
//   JsonFields fields(json, path);
//   const auto step = fields.integer("step", 0);
//   fields.require_no_more();
//
// Throws Error that names `name` (the file) and the place: more than `max_bytes`, deeper than 16, a key
// twice, text that is not UTF-8, something after the end; a field that is missing, unknown or of
// another type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace headrace {

nlohmann::json parse_json(std::string_view text,
                          const std::string& name,
                          std::size_t max_bytes = std::size_t{16} << 20);

// An object, field by field; each may be asked for once.
class JsonFields {
 public:
  // Both must outlive it; `what` stands before the field's name in messages.
  JsonFields(const nlohmann::json& object, const std::string& name, std::string what = "");

  const nlohmann::json* find(const std::string& key);  // null: not there
  const nlohmann::json& at(const std::string& key);
  std::uint64_t natural(const std::string& key);
  std::int64_t integer(const std::string& key, std::int64_t least);
  std::string text(const std::string& key);
  bool boolean(const std::string& key);
  void require_no_more() const;

 private:
  const nlohmann::json* object_;
  const std::string* name_;
  std::string what_;
  std::set<std::string> known_;
};

// Text of unknown origin for a message: quoted, control characters and what is no UTF-8 escaped,
// its middle left out where it is long.
std::string excerpt(std::string_view text);

}  // namespace headrace
