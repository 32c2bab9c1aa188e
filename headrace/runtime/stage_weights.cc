#include "headrace/runtime/stage_weights.h"

namespace headrace {

void StageWeights::share(std::size_t layer, std::size_t parameter, const torch::Tensor& other) {
  newest_[layer][parameter].set_data(other.detach());
}

void StageWeights::begin_versions() {
  newest_version_ = 0;
  older_.clear();
}

void StageWeights::advance(bool keep, bool in_use) {
  const int before = newest_version_++;
  if (!keep && !in_use) return;
  if (keep) older_.emplace(before, newest_);
  const torch::NoGradGuard no_grad;
  for (Tensors& layer : newest_) {
    for (torch::Tensor& leaf : layer) {
      const torch::Tensor old = leaf;
      leaf = old.detach().clone().requires_grad_(old.requires_grad());
      leaf.mutable_grad() = old.grad();
    }
  }
}

}  // namespace headrace
