#include <vector>

#include "headrace/train/config/rules.h"
#include "headrace/train/config/sections.h"

namespace headrace {

using namespace rules;

void add_optimizer_keys(std::vector<Key>& table) {
  Rows optimizer(table, "optimizer", [](auto& c) -> auto& { return c.optimizer; });
  using O = OptimizerConfig;
  optimizer("kind", &O::kind, Choice{{"adamw", "sgd"}}, "how weights are updated");
  optimizer("learning_rate", &O::learning_rate, Number{}, "the highest: at the end of the warm-up");
  optimizer("minimum_learning_rate", &O::minimum_learning_rate, Number{},
            "the last step's, with `cosine`");
  optimizer("warmup", &O::warmup, Whole{0}, "steps of linear warm-up");
  optimizer("decay", &O::decay, Choice{{"cosine", "constant"}}, "of the learning rate");
  optimizer("weight_decay", &O::weight_decay, Number{}, "on matrices only");
  optimizer("beta1", &O::beta1, Number{.high = 1}, "adamw: decay of the first moment");
  optimizer("beta2", &O::beta2, Number{.high = 1}, "adamw: decay of the second moment");
  optimizer("epsilon", &O::epsilon, Number{}, "adamw: added to the root of the second moment");
  optimizer("momentum", &O::momentum, Number{.high = 1}, "sgd");
  optimizer("clip", &O::clip, Number{}, "greatest gradient norm over all stages; 0: no limit");
}

}  // namespace headrace
