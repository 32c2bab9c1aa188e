// Every schedule we know, by name. A generator is one .cc file with its picture and paper in the
// head comment, one function here, and one row of the table in generators.cc.
//
//   Schedule s = generate("1f1b", {.ranks = 4, .microbatches = 8});
//
// Throws UsageError where the sizes do not fit the schedule, with the rule and the nearest sizes
// that work, or not this machine's memory, with the arithmetic; and for an unknown name, with the
// nearest known one. All schedules are compute-only; lower() adds the communication.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "headrace/schedule/costs.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

struct GeneratorOptions {
  int ranks = 1;
  int microbatches = 1;
  int stages_per_rank = 0;  // 0: the schedule's own default
  // Microbatches that run together: of a turn (gis), of an update (pipedream-2bw); the number of
  // pipelines (chimera). 0: the schedule's own default.
  int group_size = 0;
  int sequence_splits = 0;  // of each microbatch (seq1f1b); 0: the schedule's own default
  // For the schedules that are fitted to costs (zb-auto, zb-v, v-adaptive, auto).
  Costs costs = {};
  // The most activation memory, in the costs' unit: one value a rank, or one for all. Empty: the
  // schedule's own default.
  std::vector<double> memory_limit;
};

struct Generator {
  std::string name;
  std::string summary;     // one line: what it is, its paper
  std::string constraint;  // the sizes it takes, in words
  Schedule (*order)(const GeneratorOptions&);

  Schedule make(const GeneratorOptions& options) const;
};

const std::vector<Generator>& generators();
Schedule generate(std::string_view name, const GeneratorOptions& options);
// The one of that name; throws UsageError, naming all of them, where there is none.
const Generator& find_generator(const std::vector<Generator>& among, std::string_view name);

Schedule gpipe(int ranks, int microbatches);
Schedule one_f_one_b(int ranks, int microbatches);
Schedule eager_1f1b(const GeneratorOptions& options);
Schedule interleaved(const GeneratorOptions& options);
Schedule breadth_first(const GeneratorOptions& options);
Schedule zb_h1(const GeneratorOptions& options);
Schedule zb_h2(const GeneratorOptions& options);
Schedule zb_auto(const GeneratorOptions& options);
Schedule zb_v(const GeneratorOptions& options);
Schedule v_half(const GeneratorOptions& options);
Schedule v_min(const GeneratorOptions& options);
Schedule v_adaptive(const GeneratorOptions& options);
Schedule one_f_one_b_v(const GeneratorOptions& options);
Schedule grouped_interleaved(const GeneratorOptions& options);
Schedule dualpipe(const GeneratorOptions& options);
Schedule dualpipe_v(const GeneratorOptions& options);
Schedule chimera(const GeneratorOptions& options);
Schedule seq1f1b(const GeneratorOptions& options);
Schedule pipedream(const GeneratorOptions& options);
Schedule pipedream_2bw(const GeneratorOptions& options);
// Forwards alone, for evaluation: stage s of P on rank s of `placement`, microbatches in ascending
// order.
Schedule forward_only(const Placement& placement, int microbatches);

}  // namespace headrace
