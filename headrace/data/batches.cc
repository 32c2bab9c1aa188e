#include "headrace/data/batches.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "headrace/base/error.h"
#include "headrace/base/keyed.h"
#include "headrace/data/permutation.h"
#include "headrace/data/token_file.h"

namespace headrace {

Batches::Batches(std::shared_ptr<const TokenFile> file,
                 std::int64_t begin,
                 std::int64_t end,
                 int context,
                 std::uint64_t seed)
    : file_(std::move(file)),
      begin_(begin),
      // The last token is nobody's input: it has no target.
      samples_((end - begin - 1) / context),
      context_(context),
      seed_(seed) {
  assert(context >= 1 && begin >= 0 && begin <= end && end <= file_->size());
  check(samples_ >= 1, file_->path().string(), ": tokens ", begin, " to ", end, " are ",
        end - begin, ", and one sample takes ", context + 1, " (a context of ", context,
        ", and a target); give more text or a smaller context");
}

Batch Batches::samples_at(std::int64_t first, std::int64_t rows) const {
  assert(first >= 0 && rows >= 0);
  std::vector<std::int64_t> order(static_cast<std::size_t>(rows));
  for (std::int64_t number = first; std::int64_t& sample : order) {
    const std::uint64_t key = keyed(seed_, "epoch", number / samples_);
    sample = permuted(number % samples_, samples_, key);
    ++number;
  }
  return gather(order);
}

Batch Batches::in_order(std::int64_t first, std::int64_t rows) const {
  assert(first >= 0 && rows >= 0 && first + rows <= samples_);
  std::vector<std::int64_t> order(static_cast<std::size_t>(rows));
  std::iota(order.begin(), order.end(), first);
  return gather(order);
}

Batch Batches::gather(const std::vector<std::int64_t>& order) const {
  const auto rows = static_cast<std::int64_t>(order.size());
  Batch batch;
  batch.inputs = torch::empty({rows, context_}, torch::kInt64);
  batch.targets = torch::empty({rows, context_}, torch::kInt64);
  const auto context = static_cast<std::size_t>(context_);
  auto* input = batch.inputs.data_ptr<std::int64_t>();
  auto* target = batch.targets.data_ptr<std::int64_t>();
  for (const std::int64_t sample : order) {
    const std::int64_t at = begin_ + sample * context_;
    file_->read(at, {input, context});
    file_->read(at + 1, {target, context});
    input += context;
    target += context;
  }
  return batch;
}

}  // namespace headrace
