// Batches keyed by (seed, step): the same on every rank, with nothing to save but the step.
//
// A range of a token file is cut into samples of `context` inputs and their targets (the next token
// of each): sample i reads tokens [i·context, i·context + context] of the range. Samples are drawn
// epoch by epoch, each exactly once, in an order that is a permutation keyed by (seed, epoch);
// numbers run on over epochs, so that a batch may cross an end.
//
//   Batches training(file, 0, split, 256, seed);
//   Batch batch = training.samples_at(step * 32, 32);  // 32 rows, the same wherever it is called
//
// Threads may share one. What is left of a range after its last whole sample is not used.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <torch/types.h>

#include "headrace/data/token_file.h"

namespace headrace {

struct Batch {
  torch::Tensor inputs;   // [rows, context] int64
  torch::Tensor targets;  // [rows, context] int64
};

class Batches {
 public:
  // Tokens [begin, end) of the file. Throws Error where not one sample fits, naming the file and
  // both lengths.
  Batches(std::shared_ptr<const TokenFile> file,
          std::int64_t begin,
          std::int64_t end,
          int context,
          std::uint64_t seed);

  std::int64_t samples() const { return samples_; }  // of one epoch
  // `rows` samples from the endless, shuffled sequence, beginning with number `first`.
  Batch samples_at(std::int64_t first, std::int64_t rows) const;
  // Samples in file order (evaluation); `first + rows` at most samples().
  Batch in_order(std::int64_t first, std::int64_t rows) const;

 private:
  Batch gather(const std::vector<std::int64_t>& order) const;

  std::shared_ptr<const TokenFile> file_;
  std::int64_t begin_;
  std::int64_t samples_;
  int context_;
  std::uint64_t seed_;
};

}  // namespace headrace
