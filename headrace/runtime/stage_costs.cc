#include "headrace/runtime/stage_costs.h"

#include <cstddef>
#include <vector>

#include "headrace/model/layer.h"
#include "headrace/runtime/predict_memory.h"

namespace headrace {

Costs stage_costs(const Layout& layout) {
  Costs costs;
  for (std::vector<double>* values :
       {&costs.forward, &costs.backward_input, &costs.backward_weight, &costs.memory_forward,
        &costs.memory_backward_input, &costs.memory_backward_weight})
    values->assign(static_cast<std::size_t>(layout.stages()), 0);
  for (int stage = 0; stage < layout.stages(); ++stage) {
    const auto at = static_cast<std::size_t>(stage);
    const Recompute recompute = layout.recompute[at];
    for (int i = layout.starts[at]; i < layout.end(stage); ++i) {
      const LayerSpec& layer = layout.model[static_cast<std::size_t>(i)];
      const bool again = recompute == Recompute::All ||
                         (recompute == Recompute::Attention && layer.memory.is_attention);
      costs.forward[at] += layer.cost.weight();
      costs.backward_input[at] += layer.cost.weight() * (again ? 2 : 1);
      costs.backward_weight[at] += layer.cost.flops;
    }
    costs.memory_forward[at] = held_activations(layout, stage, {});
    costs.memory_backward_weight[at] = -costs.memory_forward[at];
  }
  return costs;
}

}  // namespace headrace
