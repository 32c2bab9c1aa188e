#include "headrace/runtime/weights.h"

#include <algorithm>
#include <cassert>

namespace headrace {

Weights::Weights(const Plan& plan,
                 const Ownership& ownership,
                 int rank,
                 const std::vector<Stage*>& stages) {
  for (const std::size_t order : ownership.owned_by(rank))
    entries_.push_back({ownership.parameters[order].name, order, {}});
  const torch::NoGradGuard no_grad;
  for (Stage* stage : stages) {
    const auto first =
        static_cast<std::size_t>(plan.starts[static_cast<std::size_t>(stage->index())]);
    for (std::size_t layer = 0; layer < stage->weights().newest().size(); ++layer) {
      const std::vector<ParameterSpec>& parameters = plan.layers[first + layer].parameters;
      for (std::size_t at = 0; at < parameters.size(); ++at) {
        const auto entry = std::ranges::find(entries_, parameters[at].name, &Entry::name);
        assert(entry != entries_.end());
        const Place place{stage, layer, at};
        // One storage, a leaf and a gradient for each owner.
        if (!entry->owners.empty()) stage->weights().share(layer, at, leaf(entry->owners.front()));
        leaf(place).mutable_grad() = torch::zeros_like(leaf(place));
        entry->owners.push_back(place);
      }
    }
  }
}

const torch::Tensor& Weights::leaf(const Place& place) {
  return place.stage->weights().newest()[place.layer][place.parameter];
}

std::size_t Weights::index_of(std::size_t order) const {
  const auto found = std::ranges::lower_bound(entries_, order, {}, &Entry::order);
  assert(found != entries_.end() && found->order == order);
  return static_cast<std::size_t>(found - entries_.begin());
}

torch::Tensor Weights::value(std::size_t i) const {
  return leaf(entries_[i].owners.front()).detach();
}

Tensors Weights::gradients(std::size_t i) const {
  Tensors all;
  for (const Place& owner : entries_[i].owners) all.push_back(leaf(owner).grad());
  return all;
}

std::vector<std::size_t> Weights::of_stage(int stage) const {
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < entries_.size(); ++i)
    if (std::ranges::any_of(entries_[i].owners,
                            [&](const Place& owner) { return owner.stage->index() == stage; }))
      indices.push_back(i);
  return indices;
}

void Weights::zero_gradients() {
  for (const Entry& entry : entries_)
    for (const Place& owner : entry.owners) leaf(owner).mutable_grad().zero_();
}

}  // namespace headrace
