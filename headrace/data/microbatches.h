// A batch cut into microbatches of at most so many rows, the last of which may have fewer. Said here
// alone, for training and evaluation.
//
//   const Microbatches cut(batch, 4, device);
//   for (int m = 0; m < cut.count(); ++m) train(cut.inputs(m), cut.targets(m));
#pragma once

#include <cstdint>
#include <vector>

#include "headrace/data/batches.h"

namespace headrace {

// How many a batch of `rows` gives.
int microbatch_count(std::int64_t rows, std::int64_t rows_each);

class Microbatches {
 public:
  // `batch` is on the host, where it is counted, and comes to the device whole: one copy for its inputs, one for
  // its targets, which nobody waits for.
  Microbatches(Batch batch, std::int64_t rows_each, torch::Device device = torch::kCPU);

  int count() const;
  // On the device.
  torch::Tensor inputs(int m) const { return part(on_device_.inputs, m); }
  torch::Tensor targets(int m) const { return part(on_device_.targets, m); }
  std::int64_t tokens() const { return batch_.inputs.numel(); }
  // Targets that there is something to predict for: of all microbatches, and of some.
  std::int64_t valid() const;
  std::int64_t valid(const std::vector<int>& some) const;

 private:
  torch::Tensor part(const torch::Tensor& all, int m) const;

  Batch batch_;
  Batch on_device_;
  std::int64_t rows_each_;
};

}  // namespace headrace
