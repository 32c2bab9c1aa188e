// The tensors of a folder, whichever file each lies in: model.safetensors.index.json and the shards
// that it names, or model.safetensors alone. Files are mapped when the first of their tensors is
// asked for. Needs no torch.
//
//   Shards weights(folder);
//   weights.at("transformer.wte.weight").bytes;
//
// Throws Error that names the file: for an index that is none, that names a file elsewhere, or that
// and a shard do not have the same names.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/safetensors.h"

namespace headrace {

class Shards {
 public:
  // `kind`: kFirst and kSecond are the moments, whose files are called as the weights' are, but for
  // the kind. With a manifest each tensor is checked by it when it is asked for, and nothing else of
  // its file is read but the header.
  explicit Shards(const std::filesystem::path& folder,
                  const std::string& kind = kWeights,
                  Manifest manifest = {});

  // By name of the tensor.
  const std::map<std::string, std::string>& files() const { return files_; }
  // `name` is one of files().
  const TensorView& at(const std::string& name);
  const SafetensorsFile& file(const std::string& file);

 private:
  std::filesystem::path folder_;
  Manifest manifest_;
  std::map<std::string, std::string> files_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> open_;
  std::set<std::string> checked_;  // tensors
};

std::string to_index_json(const std::map<std::string, std::string>& files,
                          std::uint64_t bytes_of_weights);

}  // namespace headrace
