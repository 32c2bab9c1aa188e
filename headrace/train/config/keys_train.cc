#include <vector>

#include "headrace/train/config/rules.h"
#include "headrace/train/config/sections.h"

namespace headrace {

using namespace rules;

void add_train_keys(std::vector<Key>& table) {
  Rows train(table, "train", [](auto& c) -> auto& { return c.train; });
  using T = TrainConfig;
  train("steps", &T::steps, Whole{1}, "optimizer steps; one of `steps` and `epochs`").instead_of =
      "epochs";
  train("epochs", &T::epochs, Whole{1}, "passes over the training data").instead_of = "steps";
  train("drop_last", &T::drop_last, Flag{},
        "with `epochs`: leave out the smaller last batch of each");
  train("batch", &T::batch, Whole{1},
        "sequences a step; of `batch` = `microbatch` × `microbatches` any two give the third");
  train("microbatch", &T::microbatch, Whole{1}, "sequences a microbatch");
  train("microbatches", &T::microbatches, Whole{1}, "microbatches a step");
  train("optimizer", &T::optimizer, Choice{{"adamw", "sgd"}}, "how weights are updated");
  train("learning_rate", &T::learning_rate, Number{}, "the highest: at the end of the warm-up");
  train("minimum_learning_rate", &T::minimum_learning_rate, Number{},
        "the last step's, with `cosine`");
  train("warmup", &T::warmup, Whole{0}, "steps of linear warm-up");
  train("decay", &T::decay, Choice{{"cosine", "constant"}}, "of the learning rate");
  train("weight_decay", &T::weight_decay, Number{}, "on matrices only");
  train("beta1", &T::beta1, Number{.high = 1}, "adamw: decay of the first moment");
  train("beta2", &T::beta2, Number{.high = 1}, "adamw: decay of the second moment");
  train("epsilon", &T::epsilon, Number{}, "adamw: added to the root of the second moment");
  train("momentum", &T::momentum, Number{.high = 1}, "sgd");
  train("precision", &T::precision, Choice{{"fp32", "bf16", "fp16"}},
        "of matrix products and attention; weights, sums of gradients and the rest are fp32");
  train("loss_scale", &T::loss_scale, Number{.low = 0, .above = true},
        "fp16: what it starts at, a power of two; halved where gradients overflow, doubled after "
        "2,000 steps without");
  train("clip", &T::clip, Number{}, "greatest gradient norm over all stages; 0: no limit");
  train("seed", &T::seed, Whole{0}, "of the initial weights, the order of the data and dropout");
  train("evaluate_every", &T::evaluate_every, Whole{0},
        "steps between evaluations; 0: at the end only");
  train("evaluate_sequences", &T::evaluate_sequences, Whole{0}, "of the validation split; 0: all");
  train("evaluate_microbatch", &T::evaluate_microbatch, Whole{0},
        "sequences a microbatch in evaluation; 0: as in training");
}

}  // namespace headrace
