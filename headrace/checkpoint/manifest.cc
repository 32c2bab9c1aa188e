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

constexpr std::uint64_t kVersion = 2;  // 1 had no sums of tensors

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
  for (const FileRecord& file : manifest) {
    nlohmann::ordered_json entry = {{"bytes", file.bytes}, {"xxh3_128", file.checksum}};
    if (!file.tensors.empty()) entry["tensors"] = file.tensors;
    files.push_back({file.name, entry});
  }
  return nlohmann::ordered_json({{"version", kVersion}, {"files", files}}).dump(1) + "\n";
}

Manifest parse_manifest(const std::string& text, const std::string& name) {
  const nlohmann::json json = parse_json(text, name);
  JsonFields top(json, name);
  const std::uint64_t version = top.natural("version");
  check(version == kVersion, name, " is of version ", version,
        " of the checkpoint format, and this program reads version ", kVersion);
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
    if (const nlohmann::json* tensors = fields.find("tensors"); tensors != nullptr) {
      check(tensors->is_object(), name, ": the tensors of ", file, " are not an object");
      for (const auto& [tensor, checksum] : tensors->items()) {
        check(checksum.is_string() && is_checksum(checksum.get_ref<const std::string&>()), name,
              ": the checksum of ", excerpt(tensor), " is none");
        record.tensors.emplace(tensor, checksum.get<std::string>());
      }
    }
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
