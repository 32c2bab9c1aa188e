// The table of keys of the configuration: one row a key, from which files are read and written,
// `--set` works, values are checked and docs/configuration.md is proved complete.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "headrace/train/config/config.h"
#include "headrace/train/config/value.h"

namespace headrace {

struct Key {
  std::string section;
  std::string name;
  std::string expected;    // "a whole number of 1 or more"
  std::string help;        // one line
  std::string instead_of;  // the key of the same section whose place it takes; "" for none

  // False, and the configuration as it was, where the value is not what is expected.
  std::function<bool(Config&, const Value&)> set;
  std::function<Value(const Config&)> get;
  std::function<void(Config&)> reset;  // to its default
  // "; did you mean 'sgd'?" for a value that is not one of a few words.
  std::function<std::string(const Value&)> hint;

  std::string full_name() const { return section + "." + name; }
};

const std::vector<Key>& keys();
const std::vector<std::string>& sections();

// The key of that section, or nullptr.
const Key* find_key(const std::string& section, const std::string& name);

// Sets the key or throws UsageError; `where` opens its message ("a.toml:7: ", "").
void set_key(const Key& key, Config& config, const Value& value, const std::string& where);

// What to say about a key that the section does not have: the nearest, or the section it belongs
// to.
std::string unknown_key(const std::string& section, const std::string& name);
std::string unknown_section(const std::string& section);

// A key that still has its default, and whose default nobody may write: it is not given.
bool is_unset(const Key& key, const Config& config);

}  // namespace headrace
