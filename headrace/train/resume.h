// Going on from a run's checkpoints, and beginning with the weights of others.
//
//   Config config = resumed_config("runs/one", {"pipeline.ranks=3"});
//   resolve(config);
//   require_resumable(config);                              // before any process starts
//   Resumed from = read_newest(config, plan, naming, transport, say);
//   trainer.restore(from.snapshot);
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "headrace/checkpoint/snapshot.h"
#include "headrace/plan/plan.h"
#include "headrace/tensor/naming.h"
#include "headrace/train/config/config.h"
#include "headrace/transport/transport.h"

namespace headrace {

std::filesystem::path checkpoint_directory(const Config& config);

// The configuration of the run in that folder, with the settings over it. What the run has derived
// from settings that are now others is derived anew: batch, microbatch and microbatches from one
// another, and the cut where the ranks, the schedule or the stages a rank change. Throws UsageError
// where there is no run.
Config resumed_config(const std::filesystem::path& run, const std::vector<std::string>& settings);

// Of a run that begins anew. Throws UsageError where checkpoint.directory holds checkpoints, which
// are another run's; unless they are to be overwritten, and then it deletes them.
void claim_checkpoints(const Config& config, bool overwrite);

// Throws UsageError where the run has no complete checkpoint, has done all its steps, or where what
// the checkpoint holds cannot be carried over: with the settings and both values. For ranks of one host;
// of several, each of which may see another share of the checkpoints, read_newest finds it out.
void require_resumable(const Config& config);
// Throws UsageError where the folder of model.from holds another model, with the settings and both
// values.
void require_same_model(const Config& config);

// The newest that seems whole; none where there is none. For whoever is to say where a run would go on
// from.
std::optional<std::filesystem::path> newest_checkpoint(const Config& config);

struct Resumed {
  std::filesystem::path folder;
  Snapshot snapshot;  // this rank's share; step, samples and numbers are the same on all
};

// The newest checkpoint that all ranks can read, the same on all. `say` is called on rank 0 for each
// that was passed over, with the reason. None where there is none and need not be; throws Error where
// none can be read, and UsageError where what it holds cannot be carried over.
std::optional<Resumed> read_newest(const Config& config,
                                   const Plan& plan,
                                   const Naming& naming,
                                   Transport& transport,
                                   const std::function<void(const std::string&)>& say);

// This rank's, of model.from.
NamedTensors read_initial_weights(const Config& config,
                                  const Plan& plan,
                                  const Naming& naming,
                                  int rank);

}  // namespace headrace
