#include "headrace/plan/stage_costs.h"

#include <cstddef>
#include <vector>

#include "headrace/plan/memory.h"

namespace headrace {

Costs stage_costs(const Plan& plan) {
  Costs costs;
  for (std::vector<double>* values :
       {&costs.forward, &costs.backward_input, &costs.backward_weight, &costs.memory_forward,
        &costs.memory_backward_input, &costs.memory_backward_weight})
    values->assign(static_cast<std::size_t>(plan.stages()), 0);
  for (int stage = 0; stage < plan.stages(); ++stage) {
    const auto at = static_cast<std::size_t>(stage);
    const Recompute recompute = plan.recompute[at];
    for (int i = plan.starts[at]; i < plan.end(stage); ++i) {
      const LayerInfo& layer = plan.layers[static_cast<std::size_t>(i)];
      const bool again = recompute == Recompute::All ||
                         (recompute == Recompute::Attention && layer.memory.is_attention);
      costs.forward[at] += layer.cost.weight();
      costs.backward_input[at] += layer.cost.weight() * (again ? 2 : 1);
      costs.backward_weight[at] += layer.cost.flops;
    }
    costs.memory_forward[at] = held_activations(plan, stage, {});
    costs.memory_backward_weight[at] = -costs.memory_forward[at];
  }
  return costs;
}

}  // namespace headrace
