#include "headrace/checkpoint/write.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/checkpoint/files.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/record.h"
#include "headrace/checkpoint/safetensors.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

const StoredTensor& stored(const Naming& naming, const std::string& name) {
  const auto found = naming.stored.find(name);
  check(found != naming.stored.end(), "the parameter ", name, " has no name in files");
  return found->second;
}

FileRecord write_tensors(const fs::path& path, const NamedTensors& tensors, const Naming& naming) {
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors) {
    const StoredTensor& as = stored(naming, name);
    check(tensor.scalar_type() == torch::kFloat32 && tensor.sizes() == as.shape, "the tensor of ",
          name, " has not the parameter's type and shape");
    TensorInfo& info = infos.emplace_back(TensorInfo{as.name, Dtype::F32, {}});
    info.shape.assign(as.shape.begin(), as.shape.end());
    if (as.transposed) std::ranges::reverse(info.shape);
  }
  SafetensorsWriter file(path, infos);
  for (const auto& [name, tensor] : tensors) {
    // One at a time, so that the copies of all are never there together.
    Tensor values = tensor.detach();
    if (stored(naming, name).transposed) values = values.t();
    values = values.cpu().contiguous();
    file.append(std::as_bytes(
        std::span(values.data_ptr<float>(), static_cast<std::size_t>(values.numel()))));
  }
  return file.finish();
}

CheckpointState state_of(const Snapshot& share) {
  return {.step = share.step,
          .samples = share.samples,
          .seed = share.seed,
          .first = !share.first.empty(),
          .second = !share.second.empty(),
          .numbers = share.numbers};
}

void write_files(const fs::path& folder,
                 const Snapshot& share,
                 const Naming& naming,
                 ShareRecord& record) {
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "cannot make ", folder.string(), ": ", error.message());
  // A killed writer's must not be taken for this one's.
  fs::remove(folder / record_file(record.rank), error);
  // At the same time: transposing takes about as long as a fast disk does.
  std::vector<std::future<FileRecord>> files;
  for (const auto& [kind, tensors] :
       {std::pair(kWeights, &share.weights), std::pair(kFirst, &share.first),
        std::pair(kSecond, &share.second)}) {
    if (tensors->empty()) continue;
    check(tensors->size() == share.weights.size(), "there are ", tensors->size(), " tensors of ",
          kind, " for ", share.weights.size(), " weights");
    const std::string file = shard_file(kind, record.rank, record.ranks);
    files.push_back(std::async(std::launch::async, write_tensors, folder / file,
                               std::cref(*tensors), std::cref(naming)));
  }
  for (std::future<FileRecord>& file : files) record.files.push_back(file.get());
  std::ranges::sort(record.files, {}, &FileRecord::name);
  write_record(folder, record);
  sync_folder(folder);
}

}  // namespace

std::string share_record(const fs::path& directory, std::int64_t step, int rank) {
  return read_file((partial_folder(directory, step) / record_file(rank)).string());
}

std::uint64_t write_share(
    const fs::path& directory, const Snapshot& share, const Naming& naming, int rank, int ranks) {
  const fs::path folder = partial_folder(directory, share.step);
  ShareRecord record{rank, ranks, state_of(share), {}};
  try {
    write_files(folder, share, naming, record);
  } catch (const Error& error) {
    // The room may be wanted by what goes on.
    std::error_code ignored;
    for (const char* kind : {kWeights, kFirst, kSecond})
      fs::remove(folder / shard_file(kind, rank, ranks), ignored);
    throw Error(cat("rank ", rank, " could not write its share of the checkpoint of step ",
                    share.step, ": ", error.what()));
  }
  std::uint64_t bytes = 0;
  for (const FileRecord& file : record.files) bytes += file.bytes;
  return bytes;
}

}  // namespace headrace
