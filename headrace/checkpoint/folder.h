// The checkpoints of a run: folders step-00001200 in one directory, RUN/checkpoints. One that is
// being written, or whose writer was killed, is called step-00001200.partial; one that is being
// deleted step-00001200.deleted. Needs no torch.
//
//   const std::optional<FoundCheckpoint> from = newest_complete(run / "checkpoints");
//   for (const std::string& fault : verify_checkpoint(from->path)) std::cout << fault << "\n";
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace headrace {

struct FoundCheckpoint {
  std::filesystem::path path;
  std::int64_t step = 0;
  bool complete = false;  // all of its files are there, in their sizes
  std::string why;        // not
  // Files of it that are not here, where nothing else is wrong: without a folder that all hosts see,
  // each host has the shards of its own ranks alone.
  std::vector<std::string> lacks;
  std::uint64_t bytes = 0;
};

std::filesystem::path checkpoint_folder(const std::filesystem::path& directory, std::int64_t step);
std::filesystem::path partial_folder(const std::filesystem::path& directory, std::int64_t step);

// Newest first; what is not called as above is passed over, and a directory that is not there has
// none. Throws Error where it cannot be read.
std::vector<FoundCheckpoint> list_checkpoints(const std::filesystem::path& directory);
std::optional<FoundCheckpoint> newest_complete(const std::filesystem::path& directory);

// Reads every byte: all that is wrong, or nothing. Sizes and checksums, each shard by the strict
// reader, names, types and shapes of index, weights and moments against one another, the state.
std::vector<std::string> verify_checkpoint(const std::filesystem::path& folder);

// Deletes all complete ones but the newest `keep`, what a killed writer left of steps up to the
// newest complete one, and what a killed deletion left. Not while one is being written. Returns
// what it has deleted. `parts`: what lacks shards of other hosts counts as complete.
std::vector<std::filesystem::path> prune_checkpoints(const std::filesystem::path& directory,
                                                     int keep,
                                                     bool parts = false);

// Renames it first, so that what is left of a deletion that is killed is not taken for a checkpoint.
void delete_checkpoint(const std::filesystem::path& folder);

}  // namespace headrace
