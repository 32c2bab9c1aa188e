// Writing a checkpoint. Every rank writes its share, all at the same time; when all have said that
// theirs is on disk, rank 0 completes it: only then, by one rename, does it have its name.
//
//   write_share(directory, share, naming, rank, ranks);       // on every rank
//   …                                                         // rank 0 hears that all have
//   complete_checkpoint(directory, step, ranks, naming, texts);   // on rank 0
//   prune_checkpoints(directory, keep);                       // folder.h
//
// `directory` (RUN/checkpoints) is made where need be. Where hosts do not see the same one, the first
// rank on each completes the checkpoint there, from the shares in its folder and from what the other ranks
// say that they have written: each folder is then the checkpoint but for the shards that lie elsewhere. What a
// killed writer of the same step has left is replaced. Throws Error that names the path, the rank
// and the reason; nothing that was complete before is touched then, and the same step may be
// written again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "headrace/checkpoint/snapshot.h"
#include "headrace/tensor/naming.h"

namespace headrace {

// `share` holds the parameters that have their home on the rank, with their moments where the
// optimizer keeps such; it may hold none. Its tensors are fp32, on any device. Returns the bytes
// written.
std::uint64_t write_share(const std::filesystem::path& directory,
                          const Snapshot& share,
                          const Naming& naming,
                          int rank,
                          int ranks);

struct CheckpointTexts {
  std::string config_json;                         // of the model, as Hugging Face has it
  std::string config_toml;                         // the resolved configuration of the run
  std::map<std::string, std::string> others = {};  // by name, as the tokenizer's files
};

// What rank has written, as it tells ranks that do not see its folder.
std::string share_record(const std::filesystem::path& directory, std::int64_t step, int rank);

// All but the rename, in a folder of several that do not see one another's shares: each is prepared before any
// is named, so that a disk that is full leaves no half. `elsewhere`: the records of ranks that write into
// another folder.
void prepare_checkpoint(const std::filesystem::path& directory,
                        std::int64_t step,
                        int ranks,
                        const Naming& naming,
                        const CheckpointTexts& texts,
                        const std::map<int, std::string>& elsewhere = {});
std::filesystem::path name_checkpoint(const std::filesystem::path& directory, std::int64_t step);

// Both. Checks that the shares are of one snapshot (step, samples, seed and numbers are the same in all)
// and hold each parameter of `naming` once. A complete checkpoint of the same step is replaced, in
// one exchange. Returns its folder.
std::filesystem::path complete_checkpoint(const std::filesystem::path& directory,
                                          std::int64_t step,
                                          int ranks,
                                          const Naming& naming,
                                          const CheckpointTexts& texts);

}  // namespace headrace
