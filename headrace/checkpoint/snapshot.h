// What a run is, apart from how it is cut: named weights, the optimizer's moments, a few numbers and
// the steps done. Given to a run on any number of ranks, it goes on from there.
//
// A rank holds a share of it: of each parameter that has its home on it (runtime/ownership.h), all
// of its tensors. Shares of all ranks together hold each parameter once.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <torch/types.h>

namespace headrace {

using NamedTensors = std::map<std::string, torch::Tensor>;

struct Snapshot {
  std::int64_t step = 0;     // steps done
  std::int64_t samples = 0;  // sequences that these have taken, over all epochs
  std::uint64_t seed = 0;
  // By the parameter's global name ("blocks.3.mlp.up.weight"), fp32, in the shape that the layer
  // has it in. What the optimizer does not keep is empty.
  NamedTensors weights;
  NamedTensors first;   // Adam's first moment; SGD's momentum
  NamedTensors second;  // Adam's second moment
  // "updates" (made by the optimizer: steps less those skipped), "loss_scale", "loss_scale_good" (steps
  // since it last changed), "skipped" (the last steps in a row), "loss_mean", "loss_deviation" and
  // "losses" (train/loss_trend.h).
  std::map<std::string, double> numbers;
};

}  // namespace headrace
