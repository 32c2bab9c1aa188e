#include "headrace/checkpoint/shards.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/strict_json.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> read_index(const fs::path& folder, const std::string& kind) {
  const std::string name = (folder / kIndexFile).string();
  const nlohmann::json json = parse_json(read_file(name), name);
  JsonFields fields(json, name);
  const nlohmann::json& map = fields.at("weight_map");
  check(map.is_object(), name, ": weight_map is not an object");
  if (const nlohmann::json* metadata = fields.find("metadata"); metadata != nullptr)
    check(metadata->is_object(), name, ": metadata is not an object");
  fields.require_no_more();
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map.items()) {
    check(file.is_string(), name, ": the file of ", excerpt(tensor), " is not text");
    const auto& text = file.get_ref<const std::string&>();
    check(text.starts_with(kWeights) && text.ends_with(".safetensors") &&
              text.find_first_of(std::string("/\0", 2)) == std::string::npos,
          name, ": ", excerpt(tensor), " lies in ", excerpt(text),
          ", which is not called model….safetensors");
    files.emplace(tensor, kind + text.substr(std::string(kWeights).size()));
  }
  return files;
}

}  // namespace

Shards::Shards(const fs::path& folder, const std::string& kind, Manifest manifest)
    : folder_(folder), manifest_(std::move(manifest)) {
  const bool is_single =
      manifest_.empty() &&
      fs::exists(folder / kSingleFile);  // before an index, as transformers has it
  if (is_single) {
    auto single = std::make_unique<SafetensorsFile>(folder / kSingleFile);
    for (const TensorView& tensor : single->tensors()) files_.emplace(tensor.name, kSingleFile);
    open_.emplace(kSingleFile, std::move(single));
    return;
  }
  check(fs::exists(folder / kIndexFile), "no weights lie in ", folder.string(), ": neither ",
        kIndexFile, " nor ", kSingleFile, " is there");
  files_ = read_index(folder, kind);
}

const TensorView& Shards::at(const std::string& name) {
  const SafetensorsFile& in = file(files_.at(name));
  const TensorView* found = in.find(name);
  assert(found != nullptr);  // file() has compared the names
  if (!manifest_.empty() && checked_.insert(name).second)
    check(find(manifest_, files_.at(name))->tensors.at(name) == checksum_of(found->bytes),
          in.path().string(), " is damaged: the checksum of ", name,
          " is wrong; resume from another checkpoint");
  return *found;
}

const SafetensorsFile& Shards::file(const std::string& file) {
  std::unique_ptr<SafetensorsFile>& known = open_[file];
  if (known != nullptr) return *known;
  auto opened = std::make_unique<SafetensorsFile>(folder_ / file);
  const std::string path = opened->path().string();
  if (!manifest_.empty()) {
    const FileRecord* record = find(manifest_, file);
    check(record != nullptr, path, " is not listed in ", kManifestFile);
    check(record->bytes == opened->bytes().size(), path, " has ", opened->bytes().size(),
          " bytes, and ", kManifestFile, " says ", record->bytes);
    const bool has_all = std::ranges::all_of(opened->tensors(), [&](const TensorView& tensor) {
      return record->tensors.contains(tensor.name);
    });
    check(has_all && record->tensors.size() == opened->tensors().size(), path, " and ",
          kManifestFile, " do not have the same tensors");
  }
  for (const TensorView& tensor : opened->tensors()) {
    const auto entry = files_.find(tensor.name);
    check(entry != files_.end() && entry->second == file, path, " holds ", excerpt(tensor.name),
          ", which ", kIndexFile, entry == files_.end() ? " does not name" : " has elsewhere");
  }
  for (const auto& [tensor, where] : files_)
    check(where != file || opened->find(tensor) != nullptr, path, " lacks ", excerpt(tensor),
          ", which ", kIndexFile, " has in it");
  known = std::move(opened);
  return *known;
}

std::string to_index_json(const std::map<std::string, std::string>& files,
                          std::uint64_t bytes_of_weights) {
  return nlohmann::ordered_json(
             {{"metadata", {{"total_size", bytes_of_weights}}}, {"weight_map", files}})
             .dump(1) +
         "\n";
}

}  // namespace headrace
