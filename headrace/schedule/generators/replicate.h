// Replicas: data parallelism over a pipeline. Microbatch m is done by replica m mod r of each
// stage.
//
//   replicate("1f1b", {.ranks = 2, .microbatches = 8}, {2});      // two pipelines: 4 ranks
//   replicate("1f1b", {.ranks = 2, .microbatches = 9}, {3, 1});   // 3 ranks of stage 0, one of 1
//
// One number: that many pipelines beside one another, of any schedule; rank p's replica k is rank
// p·r + k. One number a stage, as PipeDream plans them (Narayanan et al., PipeDream, SOSP 2019,
// section 3.2): the ranks of a stage follow one another, and a replica of stage s has at most
// ⌈(r_s + r_{s+1} + … ) / r_s⌉ microbatches under way; 1f1b and gpipe only.
#pragma once

#include <string_view>
#include <vector>

#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

// Where the stages lie, whatever the number of microbatches. `options` are those of one pipeline
// over all microbatches. Both throw UsageError where the sizes do not fit.
Placement replicated_placement(std::string_view name,
                               const GeneratorOptions& options,
                               const std::vector<int>& replicas);
Schedule replicate(std::string_view name,
                   const GeneratorOptions& options,
                   const std::vector<int>& replicas);

}  // namespace headrace
