#include "headrace/data/microbatches.h"

#include <algorithm>
#include <utility>

#include "headrace/tensor/streams.h"

namespace headrace {
namespace {

std::int64_t valid_in(const torch::Tensor& targets) {
  constexpr std::int64_t kNothing = -100;
  return targets.ne(kNothing).sum().item<std::int64_t>();
}

}  // namespace

int microbatch_count(std::int64_t rows, std::int64_t rows_each) {
  return static_cast<int>((rows + rows_each - 1) / rows_each);
}

Microbatches::Microbatches(Batch batch, std::int64_t rows_each, torch::Device device)
    : batch_(std::move(batch)),
      on_device_{to_device(batch_.inputs, device), to_device(batch_.targets, device)},
      rows_each_(rows_each) {}

int Microbatches::count() const {
  return microbatch_count(batch_.inputs.size(0), rows_each_);
}

std::int64_t Microbatches::valid() const {
  return valid_in(batch_.targets);
}

std::int64_t Microbatches::valid(const std::vector<int>& some) const {
  std::int64_t count = 0;
  for (const int m : some) count += valid_in(part(batch_.targets, m));
  return count;
}

torch::Tensor Microbatches::part(const torch::Tensor& all, int m) const {
  const std::int64_t first = m * rows_each_;
  return all.narrow(0, first, std::min(rows_each_, all.size(0) - first));
}

}  // namespace headrace
