#include <vector>

#include "headrace/train/config/rules.h"
#include "headrace/train/config/sections.h"

namespace headrace {

using namespace rules;

void add_evaluate_keys(std::vector<Key>& table) {
  Rows evaluate(table, "evaluate", [](auto& c) -> auto& { return c.evaluate; });
  using E = EvaluateConfig;
  evaluate("every", &E::every, Whole{0}, "steps between evaluations; 0: at the end only");
  evaluate("sequences", &E::sequences, Whole{0}, "of the validation split; 0: all");
  evaluate("microbatch", &E::microbatch, Whole{0},
           "sequences a microbatch in evaluation; 0: as in training");
}

}  // namespace headrace
