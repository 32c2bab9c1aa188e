#include "headrace/schedule/generators/generators.h"

#include <string>
#include <string_view>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

// For schedules whose only rule is one stage a rank.
void require_one_stage(std::string_view name, const GeneratorOptions& options) {
  check_usage(options.stages_per_rank <= 1, name, " puts one stage on a rank; stages_per_rank is ",
              options.stages_per_rank);
}

}  // namespace

const std::vector<Generator>& generators() {
  static const std::vector<Generator> table = {
      {"gpipe", "all forwards, then all backwards (Huang et al. 2019)",
       "any ranks, any microbatches",
       [](const GeneratorOptions& options) {
         require_one_stage("gpipe", options);
         return gpipe(options.ranks, options.microbatches);
       }},
      {"1f1b", "one forward, one backward (PipeDream-Flush, DAPPLE)", "any ranks, any microbatches",
       [](const GeneratorOptions& options) {
         require_one_stage("1f1b", options);
         return one_f_one_b(options.ranks, options.microbatches);
       }},
      {"eager-1f1b", "1F1B with twice the warm-up, which hides transfers (Qi et al. 2024)",
       "any ranks, any microbatches", eager_1f1b},
      {"interleaved", "1F1B over v stages a rank (Narayanan et al. 2021)",
       "max(1, microbatches / ranks) divides microbatches; stages_per_rank 2 unless given",
       interleaved},
      {"bfs", "looped breadth-first: a stage does all microbatches at once (Lamy-Poirier 2023)",
       "any ranks, any microbatches; stages_per_rank 2 unless given", breadth_first},
      {"zb-h1", "split backward at 1F1B's memory (Qi et al. 2024)", "any ranks, any microbatches",
       zb_h1},
      {"zb-h2", "split backward at twice 1F1B's memory (Qi et al. 2024)",
       "any ranks, any microbatches", zb_h2},
      {"zb-auto", "split backward fitted to costs under a memory limit (Qi et al. 2024)",
       "any ranks, any microbatches; uses costs and memory_limit (none unless given)", zb_auto},
      {"zb-v", "zero bubble on a V of two stages a rank (Qi et al. 2024)",
       "any ranks, any microbatches; uses costs and memory_limit (2 x ranks forwards unless given)",
       zb_v},
      {"v-half", "the V at half of 1F1B's activations (Qi et al. 2024)",
       "any ranks, any microbatches", v_half},
      {"v-min", "the V at a third of 1F1B's activations (Qi et al. 2024)",
       "any ranks, any microbatches", v_min},
      {"v-adaptive", "the best building block of the V for a memory limit (Qi et al. 2024)",
       "any ranks, any microbatches; uses costs and memory_limit (2 x ranks forwards unless given)",
       v_adaptive},
      {"1f1b-v", "the V with a fused backward at two thirds of 1F1B's activations (Qi et al. 2024)",
       "any ranks, any microbatches", one_f_one_b_v},
      {"gis",
       "interleaved with the backward split, in groups; GIS-H is half a group (Wan et al. 2025)",
       "group_size from half of ranks, rounded up, to ranks (all unless given)",
       grouped_interleaved},
      {"dualpipe", "from both ends, forward and backward overlapped (DeepSeek-AI 2024)",
       "even ranks; even microbatches >= 2 x ranks", dualpipe},
      {"dualpipe-v", "DualPipe folded to a V, one copy of the weights (DeepSeek-AI 2025)",
       "microbatches >= 2 x ranks", dualpipe_v},
      {"chimera", "pipelines in both directions (Li and Hoefler 2021)",
       "even ranks; group_size, the number of pipelines, even and a divisor of ranks (2 unless "
       "given)",
       chimera},
      {"seq1f1b", "1F1B over slices of the sequence (Sun et al. 2024)",
       "any ranks, any microbatches; sequence_splits 2 unless given", seq1f1b},
      {"pipedream", "asynchronous 1F1B, a step after every backward (Narayanan et al. 2019)",
       "any ranks, any microbatches", pipedream},
      {"pipedream-2bw", "asynchronous 1F1B with two weight versions (Narayanan et al. 2021)",
       "group_size, the microbatches of a step, >= ranks (ranks unless given)", pipedream_2bw},
  };
  return table;
}

const Generator& find_generator(const std::vector<Generator>& among, std::string_view name) {
  std::vector<std::string> names;
  for (const Generator& generator : among) {
    if (generator.name == name) return generator;
    names.push_back(generator.name);
  }
  const std::string near = nearest(name, names);
  throw UsageError(cat("no schedule is called '", name, "'; ",
                       near.empty() ? std::string() : cat("did you mean '", near, "'? "),
                       "known are ", join_text(names, ", ")));
}

Schedule Generator::make(const GeneratorOptions& options) const {
  require_sizes(name, options);
  return naming_memory(cat("making the schedule ", name), [&] { return order(options); });
}

Schedule generate(std::string_view name, const GeneratorOptions& options) {
  return find_generator(generators(), name).make(options);
}

}  // namespace headrace
