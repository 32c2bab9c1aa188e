#include "headrace/checkpoint/record.h"

#include <array>
#include <cstdio>
#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/strict_json.h"

namespace headrace {

std::string record_file(int rank) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "shard-%05d.json", rank + 1);
  return name.data();
}

void write_record(const std::filesystem::path& folder, const ShareRecord& record) {
  nlohmann::ordered_json json = {{"rank", record.rank},
                                 {"ranks", record.ranks},
                                 {"state", to_json(record.state)},
                                 {"files", to_json(record.files)}};
  write_durably(folder / record_file(record.rank), json.dump(1) + "\n");
}

ShareRecord read_record(const std::filesystem::path& folder, int rank) {
  const std::string name = (folder / record_file(rank)).string();
  return parse_record(read_file(name), name);
}

ShareRecord parse_record(const std::string& text, const std::string& name) {
  const nlohmann::json json = parse_json(text, name);
  JsonFields fields(json, name);
  ShareRecord record;
  record.rank = static_cast<int>(fields.integer("rank", 0));
  record.ranks = static_cast<int>(fields.integer("ranks", 1));
  record.state = parse_state(fields.text("state"), name);
  record.files = parse_manifest(fields.text("files"), name);
  fields.require_no_more();
  return record;
}

}  // namespace headrace
