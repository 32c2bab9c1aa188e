// Which rank holds which stage.
//
// A stage may have several replicas; microbatch m is done by replica m mod r of each stage. Plain
// data parallelism is the case where every stage has r replicas; DualPipe and Chimera put a stage's
// two replicas on two ranks of one pipe.
#pragma once

#include <cstddef>
#include <vector>

namespace headrace {

struct Placement {
  int ranks = 0;
  std::vector<std::vector<int>> owners;  // [stage][replica]: the rank that holds it

  int stages() const { return static_cast<int>(owners.size()); }
  int replicas(int stage) const {
    return static_cast<int>(owners[static_cast<std::size_t>(stage)].size());
  }
  // The rank that does this microbatch of this stage.
  int rank(int stage, int microbatch) const {
    const auto& replicas_of_stage = owners[static_cast<std::size_t>(stage)];
    return replicas_of_stage[static_cast<std::size_t>(microbatch) % replicas_of_stage.size()];
  }
  // The stages a rank holds, ascending.
  std::vector<int> stages_of(int rank) const;

  bool operator==(const Placement&) const = default;
};

// Stage s on rank s.
Placement linear_placement(int ranks);
// Stage s on rank s mod P: P·v stages (interleaved, breadth-first).
Placement loop_placement(int ranks, int stages_per_rank);
// Stage s < P on rank s, stage 2P-1-s on the same rank: the last rank holds the two in the middle.
Placement v_placement(int ranks);
// Two replicas of each of P stages: replica 0 of stage s on rank s, replica 1 on rank P-1-s
// (Chimera, DualPipe).
Placement bidirectional_placement(int ranks);

}  // namespace headrace
