#include "headrace/checkpoint/read.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/strict_json.h"
#include "headrace/base/text.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/shards.h"
#include "headrace/checkpoint/state.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

constexpr std::size_t kMaxNamed = 6;  // names in one message

std::string listed(std::vector<std::string> names) {
  const std::size_t count = names.size();
  if (count > kMaxNamed) names.resize(kMaxNamed);
  return cat(join_text(names, ", "), count > kMaxNamed ? cat(", … (", count, " in all)") : "");
}

// How a folder calls the model's parameters, and its second copies of some.
struct Found {
  std::map<std::string, std::string> names;   // by global name
  std::map<std::string, std::string> copies;  // the global name, by the copy's
};

// All names must be known and there, whoever reads whichever.
Found find_names(const fs::path& folder, const Shards& shards, const Naming& naming) {
  Found found;
  std::set<std::string> left;
  for (const auto& [name, file] : shards.files()) left.insert(name);
  // As it stands, or without the prefix that a folder may leave away.
  const auto take = [&](const std::string& name) -> std::optional<std::string> {
    if (left.erase(name) > 0) return name;
    if (naming.optional_prefix.empty() || !name.starts_with(naming.optional_prefix))
      return std::nullopt;
    std::string bare = name.substr(naming.optional_prefix.size());
    return left.erase(bare) > 0 ? std::optional(bare) : std::nullopt;
  };
  std::vector<std::string> missing;
  for (const auto& [global, as] : naming.stored) {
    if (const auto name = take(as.name)) {
      found.names.emplace(global, *name);
    } else {
      missing.push_back(as.name);
    }
  }
  for (const auto& [copy, global] : naming.copies)
    if (const auto name = take(copy)) found.copies.emplace(*name, global);
  for (const std::string& name : naming.ignored) take(name);
  check(missing.empty(), folder.string(), " lacks ", listed(missing),
        "; it is of another model than the configuration's");
  std::vector<std::string> unknown;
  for (const std::string& name : left) unknown.push_back(excerpt(name));
  check(unknown.empty(), folder.string(), " holds ", listed(unknown),
        ", which the model of the configuration does not have");
  return found;
}

std::optional<torch::ScalarType> type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F32:
      return torch::kFloat32;
    case Dtype::F16:
      return torch::kFloat16;
    case Dtype::BF16:
      return torch::kBFloat16;
    default:
      return std::nullopt;
  }
}

// In the layer's shape, fp32, in memory of its own.
Tensor tensor_of(const std::string& file,
                 const TensorView& view,
                 const StoredTensor& as,
                 bool only_floats) {
  std::vector<std::uint64_t> shape(as.shape.begin(), as.shape.end());
  if (as.transposed) std::ranges::reverse(shape);
  check(view.shape == shape, file, ": ", view.name, " has the shape ", shape_text(view.shape),
        ", and the model of the configuration ", shape_text(shape));
  const std::optional<torch::ScalarType> type = type_of(view.dtype);
  check(type && (!only_floats || view.dtype == Dtype::F32), file, ": ", view.name, " is of type ",
        to_string(view.dtype), ", not F32", only_floats ? "" : ", BF16 or F16");
  Tensor values = torch::empty(std::vector<std::int64_t>(shape.begin(), shape.end()), *type);
  // Not in place: nothing says that a file of others is aligned.
  if (!view.bytes.empty()) std::memcpy(values.data_ptr(), view.bytes.data(), view.bytes.size());
  values = values.to(torch::kFloat32);
  return as.transposed ? values.t().contiguous() : values;
}

NamedTensors read_tensors(const fs::path& folder,
                          Shards& shards,
                          const Found& found,
                          const std::vector<std::string>& names,
                          const Naming& naming,
                          bool only_floats) {
  NamedTensors tensors;
  for (const std::string& name : names) {
    const auto as = naming.stored.find(name);
    assert(as != naming.stored.end());
    const std::string& in_file = found.names.at(name);
    const std::string file = (folder / shards.files().at(in_file)).string();
    tensors[name] = tensor_of(file, shards.at(in_file), as->second, only_floats);
  }
  for (const auto& [copy, name] : found.copies) {
    if (!tensors.contains(name)) continue;
    const std::string& original = found.names.at(name);
    check(std::ranges::equal(shards.at(copy).bytes, shards.at(original).bytes), folder.string(),
          ": ", copy, " and ", original,
          " differ, and the model of the configuration has one tensor for both");
  }
  return tensors;
}

void require_folder(const fs::path& folder) {
  check(fs::is_directory(folder), folder.string(), " is no folder");
}

}  // namespace

Snapshot read_checkpoint(const fs::path& folder,
                         const std::vector<std::string>& names,
                         const Naming& naming) {
  require_folder(folder);
  const Manifest manifest = read_manifest(folder);
  const std::string state_path = (folder / kStateFile).string();
  const std::string text = read_file(state_path);
  const FileRecord* record = find(manifest, kStateFile);
  check(record != nullptr && record->checksum == checksum_of(std::as_bytes(std::span(text))),
        state_path, " is damaged: its checksum is wrong");
  const CheckpointState state = parse_state(text, state_path);
  Snapshot snapshot{
      .step = state.step, .samples = state.samples, .seed = state.seed, .numbers = state.numbers};
  const auto read = [&](const char* kind) {
    Shards shards(folder, kind, manifest);
    const Found found = find_names(folder, shards, naming);
    return read_tensors(folder, shards, found, names, naming, true);
  };
  snapshot.weights = read(kWeights);
  if (state.first) snapshot.first = read(kFirst);
  if (state.second) snapshot.second = read(kSecond);
  return snapshot;
}

std::vector<std::string> parameters_here(const fs::path& folder,
                                         const std::vector<std::string>& names,
                                         const Naming& naming) {
  if (!fs::exists(folder / kManifestFile)) return {};
  const Manifest manifest = read_manifest(folder);
  const Shards weights(folder, kWeights, manifest);
  const Found found = find_names(folder, weights, naming);
  const auto is_here = [&](const std::string& name) {
    const std::string& file = weights.files().at(found.names.at(name));
    return std::ranges::all_of(std::array{kWeights, kFirst, kSecond}, [&](const char* kind) {
      const std::string of_kind = kind + file.substr(std::string_view(kWeights).size());
      return find(manifest, of_kind) == nullptr || fs::exists(folder / of_kind);
    });
  };
  std::vector<std::string> here;
  std::ranges::copy_if(names, std::back_inserter(here), is_here);
  return here;
}

NamedTensors read_weights(const fs::path& folder,
                          const std::vector<std::string>& names,
                          const Naming& naming) {
  require_folder(folder);
  const bool is_ours = fs::exists(folder / kManifestFile);
  Shards shards(folder, kWeights, is_ours ? read_manifest(folder) : Manifest{});
  const Found found = find_names(folder, shards, naming);
  return read_tensors(folder, shards, found, names, naming, is_ours);
}

}  // namespace headrace
