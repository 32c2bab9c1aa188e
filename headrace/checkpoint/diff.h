// What two checkpoints differ in, or two folders of weights that transformers has written. Needs no
// torch.
//
//   for (const TensorDiff& diff : diff_tensors("a/step-00000010", "b/step-00000010")) …
//
// Throws Error where a folder cannot be read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace headrace {

struct TensorDiff {
  std::string part;  // "model", "first" or "second"
  std::string name;
  bool is_equal = false;  // to the bit
  std::string how;        // where not: "shape", "type", "only in A", "only in B", or "values"
  double largest = 0;     // of |a − b|, where values differ; not a number where one is none
};

// All tensors, by part and name.
std::vector<TensorDiff> diff_tensors(const std::filesystem::path& a,
                                     const std::filesystem::path& b);

struct NumberDiff {
  std::string name;
  std::string a, b;  // "-": not there
};

// Step, samples, seed and numbers that differ; of checkpoints of ours alone.
std::vector<NumberDiff> diff_states(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace headrace
