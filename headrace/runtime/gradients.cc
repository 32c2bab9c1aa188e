#include "headrace/runtime/gradients.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {

Gradients::Gradients(Transport& transport,
                     const std::vector<LayerSpec>& model,
                     const std::vector<int>& rank_of_layer,
                     const std::vector<Stage*>& stages)
    : transport_(transport) {
  std::map<std::string, std::size_t> order;
  std::vector<std::vector<int>> owners;
  for (std::size_t layer = 0; layer < model.size(); ++layer) {
    for (const ParameterSpec& spec : model[layer].parameters) {
      const auto [found, is_new] = order.emplace(spec.name, names_.size());
      if (is_new) {
        names_.push_back(spec.name);
        counted_on_.push_back(rank_of_layer[layer]);
        owners.emplace_back();
      }
      owners[found->second].push_back(rank_of_layer[layer]);
    }
  }
  const torch::NoGradGuard no_grad;
  std::map<std::size_t, OwnedParameter> mine;
  for (Stage* stage : stages) {
    for (const auto& layer : stage->layers()) {
      for (Parameter& parameter : layer->parameters()) {
        const std::size_t at = order.at(parameter.spec.name);
        OwnedParameter& owned = mine[at];
        if (owned.owners.empty()) {
          owned.name = parameter.spec.name;
          owned.value = parameter.value;
          owned.ranks = owners[at];
          owned.order = at;
        } else {
          parameter.value.set_data(
              owned.value.detach());  // one storage, a leaf and a gradient for each owner
        }
        parameter.value.mutable_grad() = torch::zeros_like(parameter.value);
        owned.owners.push_back(parameter.value);
      }
    }
  }
  for (auto& [at, owned] : mine) parameters_.push_back(std::move(owned));
}

void Gradients::zero() {
  for (OwnedParameter& parameter : parameters_)
    for (torch::Tensor& owner : parameter.owners) owner.mutable_grad().zero_();
}

void Gradients::combine(std::int64_t step) {
  const torch::NoGradGuard no_grad;
  const int self = transport_.rank();
  for (OwnedParameter& parameter : parameters_) {
    if (parameter.ranks.size() == 1) {
      parameter.gradient = parameter.owners[0].grad();
      continue;
    }
    const std::set<int> others = [&] {
      std::set<int> ranks(parameter.ranks.begin(), parameter.ranks.end());
      ranks.erase(self);
      return ranks;
    }();
    const Label label{Purpose::SharedGradients, step, -1, static_cast<int>(parameter.order)};
    Tensors local;
    for (const torch::Tensor& owner : parameter.owners) local.push_back(owner.grad());
    std::map<int, std::unique_ptr<Arrival>> arrivals;
    for (const int other : others) arrivals.emplace(other, transport_.receive(other, label));
    for (const int other : others) transport_.send(other, label, local);
    std::map<int, Tensors> by_rank = {{self, local}};
    for (auto& [other, arrival] : arrivals) by_rank.emplace(other, arrival->wait().tensors);
    // The order of the layers, whoever owns them: the sum is the same to the bit on every rank and
    // for every split.
    std::map<int, std::size_t> used;
    torch::Tensor sum;
    for (const int rank : parameter.ranks) {
      const torch::Tensor& next = by_rank.at(rank).at(used[rank]++);
      sum = sum.defined() ? sum + next : next;
    }
    transport_.flush();  // the peers may still be reading this rank's gradients
    parameter.gradient = sum;
  }
}

std::vector<double> Gradients::squared_norms() {
  Tensors counted;
  for (const OwnedParameter& parameter : parameters_)
    if (counted_on_[parameter.order] == transport_.rank()) counted.push_back(parameter.gradient);
  std::vector<double> squares;
  if (counted.empty()) return squares;
  for (const torch::Tensor& norm : torch::_foreach_norm(counted)) {
    const double value = norm.item<double>();
    squares.push_back(value * value);
  }
  return squares;
}

double Gradients::total_norm(const std::vector<std::vector<double>>& by_rank,
                             std::string* worst) const {
  std::vector<std::size_t> used(by_rank.size(), 0);
  double sum = 0;
  for (std::size_t at = 0; at < names_.size(); ++at) {
    const auto rank = static_cast<std::size_t>(counted_on_[at]);
    const double square = by_rank[rank].at(used[rank]++);
    if (!std::isfinite(square) && std::isfinite(sum) && worst != nullptr) *worst = names_[at];
    sum += square;
  }
  return std::sqrt(sum);
}

void Gradients::scale(double factor) {
  Tensors all;
  for (const OwnedParameter& parameter : parameters_) all.push_back(parameter.gradient);
  if (!all.empty()) torch::_foreach_mul_(all, factor);
}

}  // namespace headrace
