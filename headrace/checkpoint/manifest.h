// What lies in a checkpoint's folder: the names of its files, and checksums.json, which is written
// last and lists all others. Needs no torch.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "headrace/checkpoint/files.h"

namespace headrace {

inline constexpr const char* kModelConfigFile = "config.json";
inline constexpr const char* kRunConfigFile = "config.toml";
inline constexpr const char* kStateFile = "state.json";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";
inline constexpr const char* kSingleFile = "model.safetensors";  // of folders of others
inline constexpr const char* kManifestFile = "checksums.json";

// Kinds of shards.
inline constexpr const char* kWeights = "model";
inline constexpr const char* kFirst = "first";
inline constexpr const char* kSecond = "second";

// "model-00001-of-00004.safetensors" is that of rank 0 of 4.
std::string shard_file(const std::string& kind, int rank, int ranks);

using Manifest = std::vector<FileRecord>;  // by name

std::string to_json(const Manifest& manifest);
// Throws Error where a byte is another than to_json writes; `name` stands in messages for the file.
Manifest parse_manifest(const std::string& text, const std::string& name);
// Throws Error that says so where the folder has none.
Manifest read_manifest(const std::filesystem::path& folder);
const FileRecord* find(const Manifest& manifest, const std::string& file);  // null: not there

}  // namespace headrace
