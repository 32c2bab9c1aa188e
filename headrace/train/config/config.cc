#include "headrace/train/config/config.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <toml++/toml.h>

#include "headrace/base/error.h"
#include "headrace/base/faults.h"
#include "headrace/base/file.h"
#include "headrace/base/text.h"
#include "headrace/model/hugging_face/hugging_face.h"
#include "headrace/train/config/keys.h"
#include "headrace/train/config/value.h"

namespace headrace {
namespace {

Value to_value(const toml::node& node) {
  if (const auto* b = node.as_boolean()) return {b->get()};
  if (const auto* n = node.as_integer()) return {n->get()};
  if (const auto* x = node.as_floating_point()) return {x->get()};
  if (const auto* s = node.as_string()) return {s->get()};
  if (const auto* array = node.as_array()) {
    Value::List list;
    for (const toml::node& item : *array) list.push_back(to_value(item));
    return {std::move(list)};
  }
  return {Value::Foreign{node.is_table() ? "a table" : "a date or time"}};
}

// The last section opened above a line: toml++ does not say it of a key given twice.
std::string section_at(const std::string& toml, std::size_t line) {
  const std::vector<std::string> lines = split_text(toml, '\n');
  for (std::size_t i = std::min(line, lines.size()); i-- > 0;) {
    const std::string_view text = trim(lines[i]);
    if (text.starts_with('[')) return std::string(text.substr(0, text.find(']') + 1));
  }
  return "the file";
}

toml::table parse_file(const std::string& toml, const std::string& name) {
  try {
    return toml::parse(toml, std::string_view(name));
  } catch (const toml::parse_error& error) {
    const auto line = error.source().begin.line;
    std::string what(error.description());
    const std::size_t at = what.find("cannot redefine existing");
    // It names no key where a value is to become a table ("steps = 3" and "steps.more = 4").
    const std::size_t quote = at == std::string::npos ? at : what.find('\'', at);
    if (quote != std::string::npos) {
      const std::string word = what.substr(quote, what.find('\'', quote + 1) - quote + 1);
      what = what.find("table '", at) != std::string::npos
                 ? cat("section ", word, " is given twice")
                 : cat("key ", word, " in ", section_at(toml, line), " is given twice");
    } else if (what.find("could not determine value type") != std::string::npos) {
      what += "; a text stands in quotes";
    }
    throw UsageError(cat(name, ":", line, ": ", what));
  }
}

void apply_section(Config& config,
                   const std::string& section,
                   const toml::node& node,
                   const std::string& name,
                   Faults& faults) {
  const auto where = [&](const toml::node& at) {
    return cat(name, ":", at.source().begin.line, ": ");
  };
  const toml::table* table = node.as_table();
  const auto& known = sections();
  const bool is_section = std::find(known.begin(), known.end(), section) != known.end();
  if (table == nullptr) {
    faults.check(is_section, where(node), unknown_key("", section));
    faults.check(!is_section, where(node), "'", section, "' is a section: write [", section,
                 "] and its keys below");
    return;
  }
  if (!faults.check(is_section, where(node), unknown_section(section))) return;
  for (const auto& [word, value] : *table) {
    const std::string key_name(word.str());
    const Key* key = find_key(section, key_name);
    if (!faults.check(key != nullptr, where(value), unknown_key(section, key_name))) continue;
    faults.attempt([&] { set_key(*key, config, to_value(value), where(value)); });
  }
}

// The value of `--set`: as in a file, but that a text needs no quotes.
Value setting_value(const std::string& text, const std::string& where) {
  const bool quoted = text.find_first_of("[{\"'") == 0;
  try {
    const toml::table table = toml::parse("value = " + text);
    if (table.size() == 1) return to_value(*table.get("value"));
  } catch (const toml::parse_error& error) {
    check_usage(!quoted, where, error.description());
  }
  return {text};
}

// Sets the key of "section.key=value" and gives it.
const Key* apply_setting(Config& config, const std::string& setting) {
  const std::size_t equals = setting.find('=');
  const std::string left(trim(setting.substr(0, equals)));
  const std::string where = cat("--set ", left, ": ");
  const std::size_t dot = left.find('.');
  check_usage(equals != std::string::npos && dot != std::string::npos, where,
              "it must be section.key=value, as train.steps=20");
  const std::string section = left.substr(0, dot);
  const std::string name = left.substr(dot + 1);
  const auto& known = sections();
  check_usage(std::find(known.begin(), known.end(), section) != known.end(), where,
              unknown_section(section));
  const Key* key = find_key(section, name);
  check_usage(key != nullptr, where, unknown_key(section, name));
  set_key(*key, config, setting_value(std::string(trim(setting.substr(equals + 1))), where), where);
  return key;
}

// A setting of the command line takes the place of what the file says instead of it.
void apply_settings(Config& config, const std::vector<std::string>& settings, Faults& faults) {
  std::set<const Key*> given;
  for (const std::string& setting : settings)
    faults.attempt([&] { given.insert(apply_setting(config, setting)); });
  for (const Key* key : given) {
    const Key* other = find_key(key->section, key->instead_of);
    if (other != nullptr && !given.contains(other)) other->reset(config);
  }
}

}  // namespace

Config parse_config(const std::string& toml,
                    const std::string& name,
                    const std::vector<std::string>& settings) {
  const toml::table file = parse_file(toml, name);
  const auto applied_to = [&](Config config) {
    Faults faults;
    for (const auto& [section, node] : file)
      apply_section(config, std::string(section.str()), node, name, faults);
    apply_settings(config, settings, faults);
    faults.require_none();
    return config;
  };
  const Config config = applied_to({});
  // A model that begins with another's weights is as that one, where nothing else is said.
  const std::filesystem::path theirs = std::filesystem::path(config.model.from) / "config.json";
  if (config.model.from.empty() || !std::filesystem::exists(theirs)) return config;
  Config base;
  base.model.transformer = parse_config_json(read_file(theirs.string()), theirs.string());
  Config whole = applied_to(base);
  const Family ours = whole.model.transformer.family, of_folder = base.model.transformer.family;
  check_usage(ours == of_folder, "model.family is \"", name_of(ours), "\", and that of ",
              config.model.from, " is \"", name_of(of_folder), "\"; leave model.family out");
  return whole;
}

Config read_config(const std::filesystem::path& file, const std::vector<std::string>& settings) {
  std::ifstream in(file, std::ios::binary);
  check_usage(in.is_open() && !std::filesystem::is_directory(file), "cannot read configuration ",
              file.string(), ": ", in.is_open() ? "it is a folder" : std::strerror(errno));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  return parse_config(text, file.string(), settings);
}

std::string to_toml(const Config& config) {
  std::string out;
  for (const std::string& section : sections()) {
    out += cat(out.empty() ? "" : "\n", "[", section, "]\n");
    for (const Key& key : keys())
      if (key.section == section && !is_unset(key, config))
        out += cat(key.name, " = ", toml_text(key.get(config)), "\n");
  }
  return out;
}

}  // namespace headrace
