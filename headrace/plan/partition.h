// Which layers form which stage: contiguous slices of the model's list, none of them empty.
//
//   std::vector<int> starts = partition(layers, 2, {});
//   starts[1];   // the first layer of stage 1; starts[0] == 0
//
// Without a wish of the user's, the largest stage's weight is the least possible (exact; ties go to
// the earliest cuts that allow it). `balance` counts transformer blocks a stage, the embedding
// going to the first stage and the head to the last; `split` names the first layer of each later
// stage. Both are obeyed exactly.
//
// Throws UsageError, naming the layer and the setting, where a wish omits or repeats a layer or
// leaves a stage empty, and where there are fewer layers than stages, with both numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace headrace {

struct LayerItem {
  std::string name;
  int block = -1;     // the transformer block it is part of; -1: none
  double weight = 1;  // estimated cost, any unit
};

struct SplitWish {
  std::vector<int> balance;
  std::vector<std::string> split;
};

std::vector<int> partition(const std::vector<LayerItem>& layers, int stages, const SplitWish& wish);

// Throws the same where there are fewer layers than stages, for who wants to know before the stages
// are made.
void require_layers(std::size_t layers, std::int64_t stages);

}  // namespace headrace
