// A batch of random tokens, the same for the same step; the first targets of its first row are none.
#pragma once

#include <cstdint>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include "headrace/base/keyed.h"
#include "headrace/data/batches.h"

namespace headrace {

inline Batch random_batch(std::int64_t step,
                          std::int64_t rows,
                          std::int64_t context,
                          std::int64_t vocabulary) {
  auto generator = at::detail::createCPUGenerator(keyed(9, step));
  Batch batch;
  batch.inputs = torch::randint(0, vocabulary, {rows, context}, generator, torch::kInt64);
  batch.targets = torch::randint(0, vocabulary, {rows, context}, generator, torch::kInt64);
  batch.targets[0].slice(0, 0, 5).fill_(-100);
  return batch;
}

}  // namespace headrace
