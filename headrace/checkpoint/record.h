// What a rank leaves in a partial checkpoint to say what it has written: shard-00001.json of rank 0.
// For write_share and complete_checkpoint alone; a complete checkpoint holds none.
#pragma once

#include <filesystem>
#include <string>

#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/state.h"

namespace headrace {

struct ShareRecord {
  int rank = 0;
  int ranks = 1;
  CheckpointState state;  // of the rank's snapshot
  Manifest files;
};

std::string record_file(int rank);
void write_record(const std::filesystem::path& folder, const ShareRecord& record);
ShareRecord read_record(const std::filesystem::path& folder, int rank);
// Of such a file's text, which a rank that does not see the folder is told; `name` stands in messages for it.
ShareRecord parse_record(const std::string& text, const std::string& name);

}  // namespace headrace
