#include "headrace/checkpoint/manifest.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/strict_json.h"

namespace headrace {
namespace {

// A file of the folder itself, not a path to somewhere else.
bool is_plain(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string("/\0", 2)) == std::string::npos;
}

bool is_checksum(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

std::string shard_file(const std::string& kind, int rank, int ranks) {
  std::array<char, 40> number{};
  std::snprintf(number.data(), number.size(), "-%05d-of-%05d.safetensors", rank + 1, ranks);
  return kind + number.data();
}

std::string to_json(const Manifest& manifest) {
  nlohmann::ordered_json files = nlohmann::ordered_json::object();
  for (const FileRecord& file : manifest)
    files.push_back({file.name, {{"bytes", file.bytes}, {"xxh3_128", file.checksum}}});
  return nlohmann::ordered_json({{"version", 1}, {"files", files}}).dump(1) + "\n";
}

Manifest parse_manifest(const std::string& text, const std::string& name) {
  const nlohmann::json json = parse_json(text, name);
  JsonFields top(json, name);
  const std::uint64_t version = top.natural("version");
  check(version == 1, name, " is of version ", version,
        " of the checkpoint format, and this program reads version 1");
  const nlohmann::json& files = top.at("files");
  check(files.is_object(), name, ": files is not an object");
  top.require_no_more();
  Manifest manifest;
  for (const auto& [file, entry] : files.items()) {
    check(is_plain(file), name, " lists ", excerpt(file), ", which is not the name of a file");
    JsonFields fields(entry, name, file);
    FileRecord& record = manifest.emplace_back();
    record.name = file;
    record.bytes = fields.natural("bytes");
    record.checksum = fields.text("xxh3_128");
    check(is_checksum(record.checksum), name, ": the checksum of ", file, " is none");
    fields.require_no_more();
  }
  check(to_json(manifest) == text, name, " is damaged: it is not as it was written");
  return manifest;
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kManifestFile;
  check(std::filesystem::exists(path), folder.string(), " is no complete checkpoint: it has no ",
        kManifestFile, ", which is written last");
  return parse_manifest(read_file(path.string()), path.string());
}

const FileRecord* find(const Manifest& manifest, const std::string& file) {
  const auto found = std::ranges::find(manifest, file, &FileRecord::name);
  return found == manifest.end() ? nullptr : &*found;
}

}  // namespace headrace
