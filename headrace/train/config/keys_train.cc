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
  train("precision", &T::precision, Choice{{"fp32", "bf16", "fp16"}},
        "of matrix products and attention; weights, sums of gradients and the rest are fp32");
  train("loss_scale", &T::loss_scale, Number{.low = 0, .above = true},
        "fp16: what it starts at, a power of two; halved where gradients overflow, doubled after "
        "2,000 steps without");
  train("seed", &T::seed, Whole{0}, "of the initial weights, the order of the data and dropout");
  train("not_finite", &T::not_finite, Choice{{"end", "skip"}},
        "of a step whose loss or gradients are NaN or infinite: nothing is updated, and the run "
        "ends, or goes on "
        "with the next step");
  train("skip_limit", &T::skip_limit, Whole{1}, "so many steps skipped in a row end the run");
  train("verify_every", &T::verify_every, Whole{0},
        "steps between comparisons of the weights that several ranks hold (replicas, tied "
        "embeddings), which end "
        "the run where bits differ; 0: none");
  train("deterministic", &T::deterministic, Flag{},
        "on CUDA: kernels that give the same bits each time; an operation that has none ends the "
        "run");
  train("time_limit", &T::time_limit, Seconds{},
        "from the start; the run saves and stops before a further step would pass it");
}

}  // namespace headrace
