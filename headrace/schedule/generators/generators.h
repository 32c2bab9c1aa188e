// Every schedule we know, by name. A generator is one .cc file with its picture and paper in the
// head comment, its functions here, and one row of the table in table.cc.
//
//   Schedule s = generate("1f1b", {.ranks = 4, .microbatches = 8});
//   find_generator(generators(), "zb-v").place({.ranks = 4});     // where its stages lie
//
// generate() and make() throw UsageError where the sizes do not fit the schedule, with the rule and
// the nearest sizes that work, or not this machine's memory, with the arithmetic; and for an
// unknown name, with the nearest known one. fits() and try_make() answer instead. All schedules are
// compute-only; lower() adds the communication.
#pragma once

#include <optional>
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

// Why something is refused; nothing where it is not.
using Refusal = std::optional<std::string>;

struct Made {
  std::optional<Schedule> schedule;
  std::string refusal;  // why there is none
};

struct Generator {
  std::string name;
  std::string summary;      // one line: what it is, its paper
  std::string constraint;   // the sizes it takes, in words
  int stages_per_rank = 1;  // unless others are asked for
  bool any_stages = false;  // whether others may be
  // These want sizes that have passed the rules before them, with the stages a rank filled in.
  Refusal (*placement_rule)(const GeneratorOptions&) = nullptr;  // what has no microbatches in it
  Placement (*placement)(const GeneratorOptions&) = nullptr;     // null: `order` finds it (auto)
  Refusal (*rule)(const GeneratorOptions&) = nullptr;            // of the rest of the sizes
  Made (*order)(const GeneratorOptions&) = nullptr;

  // What a rank holds with these options: theirs, or the schedule's own.
  int stages_on_rank(const GeneratorOptions& options) const;
  // Where the stages lie, whatever the number of microbatches. Wants a `placement`. Throws
  // UsageError as make() does.
  Placement place(const GeneratorOptions& options) const;

  // Why the sizes do not fit. A memory limit may still be too tight.
  Refusal fits(const GeneratorOptions& options) const;
  // Throws UsageError only for costs that cannot be, and for more than this machine's memory.
  Made try_make(const GeneratorOptions& options) const;
  Schedule make(const GeneratorOptions& options) const;
};

const std::vector<Generator>& generators();
Schedule generate(std::string_view name, const GeneratorOptions& options);
// The one of that name; throws UsageError, naming all of them, where there is none.
const Generator& find_generator(const std::vector<Generator>& among, std::string_view name);

Schedule gpipe(int ranks, int microbatches);
Schedule one_f_one_b(int ranks, int microbatches);
// Forwards alone, for evaluation: stage s of P on rank s of `placement`, microbatches in ascending
// order.
Schedule forward_only(const Placement& placement, int microbatches);

}  // namespace headrace
