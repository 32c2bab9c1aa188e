#include "headrace/checkpoint/state.h"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/strict_json.h"
#include "headrace/checkpoint/manifest.h"

namespace headrace {

std::string to_json(const CheckpointState& state) {
  for (const auto& [name, value] : state.numbers)
    check(std::isfinite(value), "the checkpoint's number ", name, " is ", value);
  return nlohmann::ordered_json({{"version", 1},
                                 {"step", state.step},
                                 {"samples", state.samples},
                                 {"seed", state.seed},
                                 {"first", state.first},
                                 {"second", state.second},
                                 {"numbers", state.numbers}})
             .dump(1) +
         "\n";
}

CheckpointState parse_state(const std::string& text, const std::string& name) {
  const nlohmann::json json = parse_json(text, name);
  JsonFields fields(json, name);
  const std::uint64_t version = fields.natural("version");
  check(version == 1, name, " is of version ", version,
        " of the checkpoint format, and this program reads version 1");
  CheckpointState state;
  state.step = fields.integer("step", 0);
  state.samples = fields.integer("samples", 0);
  state.seed = fields.natural("seed");
  state.first = fields.boolean("first");
  state.second = fields.boolean("second");
  const nlohmann::json& numbers = fields.at("numbers");
  check(numbers.is_object(), name, ": numbers is not an object");
  for (const auto& [key, value] : numbers.items()) {
    check(value.is_number(), name, ": numbers.", key, " is not a number");
    state.numbers.emplace(key, value.get<double>());
  }
  fields.require_no_more();
  return state;
}

CheckpointState read_state(const std::filesystem::path& folder) {
  const std::string path = (folder / kStateFile).string();
  return parse_state(read_file(path), path);
}

}  // namespace headrace
