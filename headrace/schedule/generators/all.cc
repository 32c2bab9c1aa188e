// The table of the schedules.
#include <vector>

#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/generators/orders.h"
#include "headrace/schedule/placement.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

Placement linear(const GeneratorOptions& options) {
  return linear_placement(options.ranks);
}

Placement loop(const GeneratorOptions& options) {
  return loop_placement(options.ranks, options.stages_per_rank);
}

Placement v(const GeneratorOptions& options) {
  return v_placement(options.ranks);
}

Placement bidirectional(const GeneratorOptions& options) {
  return bidirectional_placement(options.ranks);
}

// Of a schedule that there always is once its sizes fit.
template <Schedule (*Order)(const GeneratorOptions&)>
Made always(const GeneratorOptions& options) {
  return {.schedule = Order(options), .refusal = {}};
}

template <Schedule (*Order)(int, int)>
Made always(const GeneratorOptions& options) {
  return {.schedule = Order(options.ranks, options.microbatches), .refusal = {}};
}

}  // namespace

const std::vector<Generator>& generators() {
  static const std::vector<Generator> table = {
      {.name = "gpipe",
       .summary = "all forwards, then all backwards (Huang et al. 2019)",
       .constraint = "any ranks, any microbatches",
       .placement = linear,
       .order = always<gpipe>},
      {.name = "1f1b",
       .summary = "one forward, one backward (PipeDream-Flush, DAPPLE)",
       .constraint = "any ranks, any microbatches",
       .placement = linear,
       .order = always<one_f_one_b>},
      {.name = "eager-1f1b",
       .summary = "1F1B with twice the warm-up, which hides transfers (Qi et al. 2024)",
       .constraint = "any ranks, any microbatches",
       .placement = linear,
       .order = always<eager_1f1b>},
      {.name = "interleaved",
       .summary = "1F1B over v stages a rank (Narayanan et al. 2021)",
       .constraint =
           "max(1, microbatches / ranks) divides microbatches; stages_per_rank 2 unless given",
       .stages_per_rank = 2,
       .any_stages = true,
       .placement = loop,
       .rule = interleaved_rule,
       .order = always<interleaved>},
      {.name = "bfs",
       .summary = "looped breadth-first: a stage does all microbatches at once (Lamy-Poirier 2023)",
       .constraint = "any ranks, any microbatches; stages_per_rank 2 unless given",
       .stages_per_rank = 2,
       .any_stages = true,
       .placement = loop,
       .order = always<breadth_first>},
      {.name = "zb-h1",
       .summary = "split backward at 1F1B's memory (Qi et al. 2024)",
       .constraint = "any ranks, any microbatches",
       .placement = linear,
       .order = always<zb_h1>},
      {.name = "zb-h2",
       .summary = "split backward at twice 1F1B's memory (Qi et al. 2024)",
       .constraint = "any ranks, any microbatches",
       .placement = linear,
       .order = always<zb_h2>},
      {.name = "zb-auto",
       .summary = "split backward fitted to costs under a memory limit (Qi et al. 2024)",
       .constraint = "any ranks, any microbatches; uses costs and memory_limit (none unless given)",
       .placement = linear,
       .order = zb_auto},
      {.name = "zb-v",
       .summary = "zero bubble on a V of two stages a rank (Qi et al. 2024)",
       .constraint = "any ranks, any microbatches; uses costs and memory_limit (2 x ranks forwards "
                     "unless given)",
       .stages_per_rank = 2,
       .placement = v,
       .order = zb_v},
      {.name = "v-half",
       .summary = "the V at half of 1F1B's activations (Qi et al. 2024)",
       .constraint = "any ranks, any microbatches",
       .stages_per_rank = 2,
       .placement = v,
       .order = always<v_half>},
      {.name = "v-min",
       .summary = "the V at a third of 1F1B's activations (Qi et al. 2024)",
       .constraint = "any ranks, any microbatches",
       .stages_per_rank = 2,
       .placement = v,
       .order = always<v_min>},
      {.name = "v-adaptive",
       .summary = "the best building block of the V for a memory limit (Qi et al. 2024)",
       .constraint = "any ranks, any microbatches; uses costs and memory_limit (2 x ranks forwards "
                     "unless given)",
       .stages_per_rank = 2,
       .placement = v,
       .order = v_adaptive},
      {.name = "1f1b-v",
       .summary =
           "the V with a fused backward at two thirds of 1F1B's activations (Qi et al. 2024)",
       .constraint = "any ranks, any microbatches",
       .stages_per_rank = 2,
       .placement = v,
       .order = always<one_f_one_b_v>},
      {.name = "gis",
       .summary =
           "interleaved with the backward split, in groups; GIS-H is half a group (Wan et al. "
           "2025)",
       .constraint = "group_size from half of ranks, rounded up, to ranks (all unless given)",
       .stages_per_rank = 2,
       .any_stages = true,
       .placement = loop,
       .rule = gis_rule,
       .order = always<grouped_interleaved>},
      {.name = "dualpipe",
       .summary = "from both ends, forward and backward overlapped (DeepSeek-AI 2024)",
       .constraint = "even ranks; even microbatches >= 2 x ranks",
       .placement_rule = dualpipe_placement_rule,
       .placement = bidirectional,
       .rule = dualpipe_rule,
       .order = always<dualpipe>},
      {.name = "dualpipe-v",
       .summary = "DualPipe folded to a V, one copy of the weights (DeepSeek-AI 2025)",
       .constraint = "microbatches >= 2 x ranks",
       .stages_per_rank = 2,
       .placement = v,
       .rule = dualpipe_v_rule,
       .order = always<dualpipe_v>},
      {.name = "chimera",
       .summary = "pipelines in both directions (Li and Hoefler 2021)",
       .constraint = "even ranks; group_size, the number of pipelines, even and a divisor of ranks "
                     "(2 unless given)",
       .placement_rule = chimera_placement_rule,
       .placement = chimera_placement,
       .order = always<chimera>},
      {.name = "seq1f1b",
       .summary = "1F1B over slices of the sequence (Sun et al. 2024)",
       .constraint = "any ranks, any microbatches; sequence_splits 2 unless given",
       .placement = linear,
       .rule = seq1f1b_rule,
       .order = always<seq1f1b>},
      {.name = "pipedream",
       .summary = "asynchronous 1F1B, a step after every backward (Narayanan et al. 2019)",
       .constraint = "any ranks, any microbatches",
       .placement = linear,
       .order = always<pipedream>},
      {.name = "pipedream-2bw",
       .summary = "asynchronous 1F1B with two weight versions (Narayanan et al. 2021)",
       .constraint = "group_size, the microbatches of a step, >= ranks (ranks unless given)",
       .placement = linear,
       .rule = pipedream_2bw_rule,
       .order = always<pipedream_2bw>},
  };
  return table;
}

}  // namespace headrace
