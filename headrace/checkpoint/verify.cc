#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/strict_json.h"
#include "headrace/checkpoint/files.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/shards.h"
#include "headrace/checkpoint/state.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

class Verifier {
 public:
  explicit Verifier(const fs::path& folder) : folder_(folder) {}

  std::vector<std::string> verify() {
    const bool is_folder = fs::is_directory(folder_);
    if (!is_folder) return {cat(folder_.string(), " is no folder")};
    if (!attempt([&] { manifest_ = read_manifest(folder_); })) return faults_;
    files();
    attempt([&] { state(); });
    if (!lacks_files_) attempt([&] { tensors(); });
    return faults_;
  }

 private:
  template <class Action>
  bool attempt(const Action& action) {
    try {
      action();
      return true;
    } catch (const Error& error) {
      faults_.emplace_back(error.what());
      return false;
    }
  }
  std::string path(const std::string& file) const { return (folder_ / file).string(); }

  void files() {
    for (const FileRecord& record : manifest_)
      attempt([&] {
        lacks_files_ = lacks_files_ || !fs::exists(folder_ / record.name);
        check(fs::exists(folder_ / record.name), path(record.name),
              " is not there; where hosts see no folder together each has the shards of its own "
              "ranks: copy them all into one");
        const MappedFile file(folder_ / record.name);
        const std::size_t bytes = file.bytes().size();
        check(bytes == record.bytes, path(record.name),
              bytes < record.bytes ? " is cut short: it has " : " is damaged: it has ", bytes,
              " bytes, and ", kManifestFile, " says ", record.bytes);
        check(checksum_of(file.bytes()) == record.checksum, path(record.name),
              " is damaged: its checksum is wrong");
      });
    for (const char* file : {kModelConfigFile, kRunConfigFile, kStateFile, kIndexFile})
      if (find(manifest_, file) == nullptr)
        faults_.push_back(cat(path(kManifestFile), " does not list ", file));
    std::error_code error;
    for (fs::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error)) {
      const std::string file = at->path().filename().string();
      if (file.ends_with(".safetensors") && find(manifest_, file) == nullptr)
        faults_.push_back(cat(path(file), " is not listed in ", kManifestFile));
    }
  }

  void state() {
    state_ = read_state(folder_);
    const fs::path full = fs::absolute(folder_).lexically_normal();
    const fs::path name = full.has_filename() ? full.filename() : full.parent_path().filename();
    check(name == checkpoint_folder("", state_.step) || !name.native().starts_with("step-"),
          path(kStateFile), " is of step ", state_.step);
  }

  void tensors() {
    Shards weights(folder_);
    std::set<std::string> shards;
    for (const auto& [tensor, file] : weights.files()) shards.insert(file);
    std::uint64_t bytes = 0;
    for (const std::string& file : shards)
      attempt([&] {
        for (const TensorView& tensor : weights.file(file).tensors()) {
          check(tensor.dtype == Dtype::F32, path(file), ": ", excerpt(tensor.name), " is of type ",
                to_string(tensor.dtype), ", not F32");
          sum(file, tensor);
          bytes += tensor.bytes.size();
        }
      });
    if (state_.first) attempt([&] { moments(weights, shards, kFirst); });
    if (state_.second) attempt([&] { moments(weights, shards, kSecond); });
    if (!faults_.empty()) return;
    check(to_index_json(weights.files(), bytes) == read_file(path(kIndexFile)), path(kIndexFile),
          " is not as it was written");
    const std::size_t kinds = 1 + (state_.first ? 1 : 0) + (state_.second ? 1 : 0);
    std::size_t listed = 0;
    for (const FileRecord& record : manifest_) listed += record.name.ends_with(".safetensors");
    check(listed == kinds * shards.size(), path(kManifestFile), " lists ", listed,
          " safetensors files, and ", kinds * shards.size(), " are of the checkpoint");
  }

  void moments(Shards& weights, const std::set<std::string>& shards, const std::string& kind) {
    Shards all(folder_, kind);
    for (const std::string& shard : shards)
      attempt([&] {
        const SafetensorsFile& file = all.file(kind + shard.substr(std::string(kWeights).size()));
        for (const TensorView& moment : file.tensors()) {
          const TensorInfo& weight = weights.at(moment.name);
          check(static_cast<const TensorInfo&>(moment) == weight, file.path().string(), ": ",
                excerpt(moment.name), " has not the type and shape of its weight");
          sum(file.path().filename().string(), moment);
        }
      });
  }

  // A reader of this tensor alone goes by its own sum.
  void sum(const std::string& file, const TensorView& tensor) {
    const FileRecord* record = find(manifest_, file);
    if (record == nullptr) return;  // said before
    const auto found = record->tensors.find(tensor.name);
    check(found != record->tensors.end() && found->second == checksum_of(tensor.bytes),
          path(kManifestFile), " has another checksum of ", excerpt(tensor.name), " than ", file);
  }

  fs::path folder_;
  Manifest manifest_;
  CheckpointState state_;
  bool lacks_files_ = false;
  std::vector<std::string> faults_;
};

}  // namespace

std::vector<std::string> verify_checkpoint(const fs::path& folder) {
  return Verifier(folder).verify();
}

}  // namespace headrace
