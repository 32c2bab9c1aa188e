#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>  // renameat2
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>

#include "headrace/base/error.h"
#include "headrace/checkpoint/files.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/record.h"
#include "headrace/checkpoint/safetensors.h"
#include "headrace/checkpoint/shards.h"
#include "headrace/checkpoint/write.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

// The shares put together.
struct Whole {
  CheckpointState state;
  Manifest files;
  std::map<std::string, std::string> places;  // of each tensor: its shard of weights
};

// Of the ranks that write into another folder, by rank.
using Elsewhere = std::map<int, std::string>;

ShareRecord record_of(const fs::path& folder, int rank, int ranks, const Elsewhere& elsewhere) {
  const std::string path = (folder / record_file(rank)).string();
  const auto told = elsewhere.find(rank);
  check(told != elsewhere.end() || fs::exists(path), "what rank ", rank,
        " has written is not to be seen: there is no ", path,
        "; nothing else may clear that folder while a run writes into it");
  ShareRecord record =
      told != elsewhere.end()
          ? parse_record(told->second, cat("what rank ", rank, " says that it has written"))
          : read_record(folder, rank);
  check(record.rank == rank && record.ranks == ranks, path, " is of rank ", record.rank, " of ",
        record.ranks, ", not of rank ", rank, " of ", ranks);
  return record;
}

void add_share(const ShareRecord& share, Whole& whole) {
  for (const FileRecord& record : share.files) {
    whole.files.push_back(record);
    if (!record.name.starts_with(kWeights)) continue;
    for (const auto& [tensor, checksum] : record.tensors) {
      const auto [place, is_new] = whole.places.emplace(tensor, record.name);
      check(is_new, tensor, " stands twice: in ", place->second, " and in ", record.name);
    }
  }
}

// That its files are as they were written; what they hold was summed as it was.
void require_files(const fs::path& folder, const ShareRecord& share) {
  for (const FileRecord& record : share.files) {
    const SafetensorsFile file(folder / record.name);
    check(file.bytes().size() == record.bytes, file.path().string(), " has ", file.bytes().size(),
          " bytes, and rank ", share.rank, " wrote ", record.bytes);
  }
}

std::uint64_t bytes_of_weights(const Naming& naming) {
  std::uint64_t bytes = 0;
  for (const auto& [name, as] : naming.stored) {
    std::uint64_t numbers = 1;
    for (const std::int64_t size : as.shape) numbers *= static_cast<std::uint64_t>(size);
    bytes += numbers * sizeof(float);
  }
  return bytes;
}

// What of the shares' states must be the same.
bool agree(CheckpointState a, const CheckpointState& b) {
  a.first = b.first;
  a.second = b.second;
  return a == b;
}

Whole gather(const fs::path& folder, int ranks, const Naming& naming, const Elsewhere& elsewhere) {
  Whole whole;
  bool is_first = true;  // of those that hold tensors
  for (int rank = 0; rank < ranks; ++rank) {
    const ShareRecord share = record_of(folder, rank, ranks, elsewhere);
    if (rank == 0) whole.state = share.state;
    check(agree(share.state, whole.state), "the shares of rank 0 and rank ", rank,
          " are not of one snapshot: their step, samples, seed or numbers differ");
    if (!share.files.empty()) {
      if (is_first) whole.state = share.state;
      is_first = false;
      check(share.state == whole.state, "rank ", rank, " has other moments than the ranks before");
    }
    if (!elsewhere.contains(rank)) require_files(folder, share);
    add_share(share, whole);
  }
  for (const auto& [name, as] : naming.stored)
    check(whole.places.contains(as.name), "no rank has written the parameter ", name);
  check(whole.places.size() == naming.stored.size(), "the shares hold ", whole.places.size(),
        " parameters, and the model has ", naming.stored.size());
  return whole;
}

// Those of earlier writers, and the ranks' records.
void remove_others(const fs::path& folder, const Manifest& files) {
  std::vector<fs::path> others;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (find(files, entry.path().filename().string()) == nullptr) others.push_back(entry.path());
  for (const fs::path& other : others) fs::remove_all(other);
}

void give_name(const fs::path& partial, const fs::path& folder) {
  if (!fs::exists(folder)) {
    fs::rename(partial, folder);
    return;
  }
  // The older one of this step keeps its name until the new one has it.
  if (::renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) {
    delete_checkpoint(partial);
    return;
  }
  check(errno == EINVAL || errno == ENOSYS, "cannot rename ", partial.string(), " to ",
        folder.string(), ": ", std::strerror(errno));
  delete_checkpoint(folder);  // a file system that exchanges no names
  fs::rename(partial, folder);
}

void prepare(const fs::path& partial,
             int ranks,
             const Naming& naming,
             const CheckpointTexts& texts,
             const Elsewhere& elsewhere) {
  Whole whole = gather(partial, ranks, naming, elsewhere);
  Manifest& files = whole.files;
  files.push_back(write_durably(partial / kModelConfigFile, texts.config_json));
  files.push_back(write_durably(partial / kRunConfigFile, texts.config_toml));
  for (const auto& [name, text] : texts.others)
    files.push_back(write_durably(partial / name, text));
  files.push_back(write_durably(partial / kStateFile, to_json(whole.state)));
  files.push_back(
      write_durably(partial / kIndexFile, to_index_json(whole.places, bytes_of_weights(naming))));
  std::ranges::sort(files, {}, &FileRecord::name);
  remove_others(partial, files);
  write_durably(partial / kManifestFile, to_json(files));
  sync_folder(partial);
}

// What goes wrong with a file is an Error that says of which checkpoint.
template <class Action>
void attempt(std::int64_t step, const Action& action) {
  std::string why;
  try {
    return action();
  } catch (const Error& error) {
    why = error.what();
  } catch (const fs::filesystem_error& error) {
    why = cat("cannot change ", error.path1().string(), ": ", error.code().message());
  }
  throw Error(cat("the checkpoint of step ", step, " could not be completed: ", why));
}

}  // namespace

void prepare_checkpoint(const fs::path& directory,
                        std::int64_t step,
                        int ranks,
                        const Naming& naming,
                        const CheckpointTexts& texts,
                        const Elsewhere& elsewhere) {
  attempt(step, [&] { prepare(partial_folder(directory, step), ranks, naming, texts, elsewhere); });
}

fs::path name_checkpoint(const fs::path& directory, std::int64_t step) {
  const fs::path folder = checkpoint_folder(directory, step);
  attempt(step, [&] {
    give_name(partial_folder(directory, step), folder);
    sync_folder(directory);
  });
  return folder;
}

fs::path complete_checkpoint(const fs::path& directory,
                             std::int64_t step,
                             int ranks,
                             const Naming& naming,
                             const CheckpointTexts& texts) {
  prepare_checkpoint(directory, step, ranks, naming, texts);
  return name_checkpoint(directory, step);
}

}  // namespace headrace
