#include "cli/costs_file.h"

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>
#include <toml++/toml.h>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/text.h"
#include "headrace/schedule/costs.h"

namespace headrace {
namespace {

// Both forms become this: a key and its numbers.
using Values = std::map<std::string, std::vector<double>>;

Values json_values(const std::string& path, const std::string& text) {
  Values values;
  try {
    const nlohmann::json object = nlohmann::json::parse(text);
    check_usage(object.is_object(), path, ": must hold an object of costs");
    for (const auto& [key, value] : object.items())
      values[key] = value.is_array() ? value.get<std::vector<double>>()
                                     : std::vector<double>{value.get<double>()};
  } catch (const nlohmann::json::exception& error) {
    throw UsageError(cat(path, ": ", error.what()));
  }
  return values;
}

double toml_number(const std::string& path, const std::string& key, const toml::node& node) {
  const auto number = node.value<double>();
  check_usage(number.has_value() && !node.is_boolean() && !node.is_string(), path, ":",
              node.source().begin.line, ": ", key, " must be a number or a list of numbers");
  return *number;
}

Values toml_values(const std::string& path, const std::string& text) {
  Values values;
  try {
    const toml::table table = toml::parse(text, path);
    for (const auto& [name, node] : table) {
      const std::string key(name.str());
      if (const toml::array* list = node.as_array()) {
        for (const toml::node& item : *list) values[key].push_back(toml_number(path, key, item));
      } else {
        values[key] = {toml_number(path, key, node)};
      }
    }
  } catch (const toml::parse_error& error) {
    throw UsageError(cat(path, ":", error.source().begin.line, ": ", error.description()));
  }
  return values;
}

}  // namespace

void read_costs(const std::string& path, Costs& costs) {
  const std::string text = read_file(path);
  const Values values = path.ends_with(".json") || trim(text).starts_with('{')
                            ? json_values(path, text)
                            : toml_values(path, text);
  const std::map<std::string, std::vector<double>*> lists = {
      {"forward", &costs.forward},
      {"backward_input", &costs.backward_input},
      {"backward_weight", &costs.backward_weight},
      {"memory_forward", &costs.memory_forward},
      {"memory_backward_input", &costs.memory_backward_input},
      {"memory_backward_weight", &costs.memory_backward_weight}};
  const std::map<std::string, double*> numbers = {
      {"overlapped", &costs.overlapped}, {"latency", &costs.latency},
      {"bandwidth", &costs.bandwidth},   {"message_bytes", &costs.message_bytes},
      {"overhead", &costs.overhead},     {"recompute", &costs.recompute},
      {"update", &costs.update},         {"reduce", &costs.reduce}};
  for (const auto& [key, value] : values) {
    if (const auto list = lists.find(key); list != lists.end()) {
      *list->second = value;
      continue;
    }
    const auto number = numbers.find(key);
    if (number == numbers.end()) {
      std::vector<std::string> known;
      for (const auto& entry : lists) known.push_back(entry.first);
      for (const auto& entry : numbers) known.push_back(entry.first);
      const std::string near = nearest(key, known);
      throw UsageError(cat(path, ": unknown key '", key, "'",
                           near.empty() ? cat("; known are ", join_text(known, ", "))
                                        : cat("; did you mean '", near, "'?")));
    }
    check_usage(value.size() == 1, path, ": ", key, " must be one number");
    *number->second = value[0];
  }
}

}  // namespace headrace
