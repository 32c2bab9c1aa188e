// A rank's share of a checkpoint, read from where its shards lie: a host may have those of its own ranks
// alone, and what a rank needs of others comes from a rank that sees them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "headrace/checkpoint/snapshot.h"
#include "headrace/plan/plan.h"
#include "headrace/tensor/naming.h"
#include "headrace/train/config/config.h"
#include "headrace/transport/transport.h"

namespace headrace {

// Global names of parameters.
struct Wanted {
  std::vector<std::string> weights;  // alone
  std::vector<std::string> all;      // and moments
};

// What a rank needs of a checkpoint.
Wanted wanted_by(const Config& config, const Plan& plan, int rank);

struct ReadShare {
  Snapshot share;
  std::string fault;  // why it cannot be read, the same on all ranks; "": it was
};

// Every rank calls it; some may see nothing of the checkpoint. What goes wrong on any rank is a fault on
// all, and so is that ranks see different checkpoints there.
ReadShare read_share(const std::filesystem::path& folder,
                     const Wanted& wanted,
                     const Naming& naming,
                     Transport& transport);

}  // namespace headrace
