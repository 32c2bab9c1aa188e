// Where a run's files go: its folder and that of its checkpoints, under the same names on every host.
// Hosts may see one folder there, or each one of its own. The lowest rank of those that see the same
// folder keeps it: completes the checkpoints in it, and writes the run's config.toml, so that the run
// can be resumed from each host.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "headrace/launch/run_claim.h"
#include "headrace/train/config/config.h"
#include "headrace/transport/transport.h"

namespace headrace {

struct Place {
  std::filesystem::path folder;  // empty: there is none
  std::vector<int> keepers;      // by rank
  bool is_one() const;           // that all see
};

struct Places {
  Place run;
  Place checkpoints;
  std::optional<RunClaim> claim;  // of a keeper that is not rank 0, on its host's folder
};

// Every rank calls it; rank 0's configuration says where, and it has claimed its own folder. On other
// hosts' folders the same conditions hold: throws UsageError where an earlier run has left something
// there that is not to be overwritten.
Places agree_on_places(const Config& config, Transport& transport);

// "" where all hosts see the same folders, else what that means.
std::string places_text(const Places& places, const Transport& transport);

}  // namespace headrace
