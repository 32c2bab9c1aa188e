// A value of the configuration file, whatever its key: what stands between TOML and Config.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace headrace {

struct Value {
  // What no key takes: "a table", "a date".
  struct Foreign {
    std::string what;
    bool operator==(const Foreign&) const = default;
  };
  using List = std::vector<Value>;

  std::variant<bool, std::int64_t, double, std::string, List, Foreign> is;

  bool operator==(const Value&) const = default;
};

// For messages: "the text \"x\"", "the number 0.5", "a list of 3".
std::string describe(const Value& value);

// As TOML writes it, so that reading gives the same value to the last bit.
std::string toml_text(const Value& value);

}  // namespace headrace
