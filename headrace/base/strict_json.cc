#include "headrace/base/strict_json.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"

namespace headrace {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxDepth = 16;
constexpr std::size_t kMaxQuoted = 120;

}  // namespace

Json parse_json(std::string_view text, const std::string& name, std::size_t max_bytes) {
  check(text.size() <= max_bytes, name, " is no JSON file of ours or of Hugging Face: it has ",
        text.size(), " bytes, and ", max_bytes, " are the most that is read");
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto each = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) {
      check(keys.size() < kMaxDepth, name, " is nested deeper than ", kMaxDepth);
      keys.emplace_back();
    } else if (event == Json::parse_event_t::object_end ||
               event == Json::parse_event_t::array_end) {
      keys.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second)  // the text is made only if needed
        throw Error(cat(name, " has ", excerpt(key), " twice in one object"));
    }
    return true;
  };
  try {
    return Json::parse(text, each);
  } catch (const Json::parse_error& error) {
    throw Error(cat(name, " is not JSON, at byte ", error.byte,
                    std::string_view(error.what()).find("UTF-8") == std::string_view::npos
                        ? ""
                        : ": that is not UTF-8"));
  } catch (const Json::exception&) {  // a number that no double holds
    throw Error(cat(name, " holds a number that is too large"));
  }
}

JsonFields::JsonFields(const Json& object, const std::string& name, std::string what)
    : object_(&object), name_(&name), what_(std::move(what)) {
  check(object.is_object(), name, ": ", what_.empty() ? "it" : what_, " is not an object");
  if (!what_.empty()) what_ += ".";
}

const Json* JsonFields::find(const std::string& key) {
  known_.insert(key);
  const auto found = object_->find(key);
  return found == object_->end() ? nullptr : &*found;
}

const Json& JsonFields::at(const std::string& key) {
  const Json* found = find(key);
  check(found != nullptr, *name_, " lacks ", what_, key);
  return *found;
}

std::uint64_t JsonFields::natural(const std::string& key) {
  const Json& value = at(key);
  check(value.is_number_unsigned(), *name_, ": ", what_, key,
        " must be a whole number, 0 or more; it is ", excerpt(value.dump()));
  return value.get<std::uint64_t>();
}

std::int64_t JsonFields::integer(const std::string& key, std::int64_t least) {
  const Json& value = at(key);
  const bool fits =
      value.is_number_integer() &&
      (!value.is_number_unsigned() || std::in_range<std::int64_t>(value.get<std::uint64_t>())) &&
      value.get<std::int64_t>() >= least;
  check(fits, *name_, ": ", what_, key, " must be a whole number, ", least, " or more; it is ",
        excerpt(value.dump()));
  return value.get<std::int64_t>();
}

std::string JsonFields::text(const std::string& key) {
  const Json& value = at(key);
  check(value.is_string(), *name_, ": ", what_, key, " must be text; it is ",
        excerpt(value.dump()));
  return value.get<std::string>();
}

bool JsonFields::boolean(const std::string& key) {
  const Json& value = at(key);
  check(value.is_boolean(), *name_, ": ", what_, key, " must be true or false; it is ",
        excerpt(value.dump()));
  return value.get<bool>();
}

void JsonFields::require_no_more() const {
  for (const auto& [key, value] : object_->items())
    check(known_.contains(key), *name_, " has ", what_, excerpt(key), ", which is not known");
}

std::string excerpt(std::string_view text) {
  std::string shown;
  if (text.size() <= kMaxQuoted) {
    shown = text;
  } else {
    shown = cat(text.substr(0, kMaxQuoted / 2), "...", text.substr(text.size() - kMaxQuoted / 2));
  }
  return Json(shown).dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

}  // namespace headrace
