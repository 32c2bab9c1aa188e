#include <vector>

#include "headrace/train/config/rules.h"
#include "headrace/train/config/sections.h"

namespace headrace {

using namespace rules;

void add_checkpoint_keys(std::vector<Key>& table) {
  Rows checkpoint(table, "checkpoint", [](auto& c) -> auto& { return c.checkpoint; });
  using C = CheckpointConfig;
  checkpoint("every", &C::every, Whole{0}, "steps between checkpoints; 0: none by steps");
  checkpoint("every_minutes", &C::every_minutes, Number{.high = 1e6},
             "minutes between checkpoints; 0: none by time");
  checkpoint("keep", &C::keep, Whole{0}, "the newest complete ones; 0: all");
  checkpoint("at_end", &C::at_end, Flag{},
             "write one where the run ends, also where it is asked to stop");
  checkpoint("directory", &C::directory, Text{},
             "of the checkpoints; not given: `checkpoints` in the run's folder");
  checkpoint("on_failure", &C::on_failure, Choice{{"continue", "stop"}},
             "what the run does where a checkpoint cannot be written; at the end it fails");
}

}  // namespace headrace
