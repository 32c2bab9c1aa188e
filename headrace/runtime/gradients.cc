#include "headrace/runtime/gradients.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {
namespace {

bool has(const std::vector<int>& values, int value) {
  return std::ranges::find(values, value) != values.end();
}

}  // namespace

Gradients::Gradients(Transport& transport,
                     const Plan& plan,
                     const std::vector<Stage*>& stages,
                     bool sharded)
    : transport_(transport), sharded_(sharded) {
  make_plan(plan);
  adopt(stages);
}

// Who owns what, and which rank is each parameter's home: the same on every rank.
void Gradients::make_plan(const Plan& plan) {
  std::map<std::string, std::size_t> order;
  std::vector<std::vector<int>> stages;
  std::vector<std::int64_t> sizes;
  for (std::size_t layer = 0; layer < plan.layers.size(); ++layer) {
    const int stage = plan.stage_of(static_cast<int>(layer));
    const auto& replicas = plan.placement.owners[static_cast<std::size_t>(stage)];
    for (const ParameterSpec& spec : plan.layers[layer].parameters) {
      const auto [found, is_new] = order.emplace(spec.name, names_.size());
      if (is_new) {
        names_.push_back(spec.name);
        sizes.push_back(spec.elements());
        owners_.emplace_back();
        stages.emplace_back();
      }
      auto& ranks = owners_[found->second];
      ranks.insert(ranks.end(), replicas.begin(), replicas.end());
      if (!has(stages[found->second], stage)) stages[found->second].push_back(stage);
    }
  }
  std::map<std::pair<std::vector<int>, std::vector<int>>, std::size_t> known;
  std::vector<Group> all;
  for (std::size_t at = 0; at < names_.size(); ++at) {
    home_.push_back(owners_[at].front());
    std::vector<int> ranks;
    for (const int rank : owners_[at])
      if (!has(ranks, rank)) ranks.push_back(rank);
    if (ranks.size() == 1) continue;
    std::ranges::sort(stages[at]);
    const auto [found, is_new] = known.emplace(std::pair(stages[at], owners_[at]), all.size());
    if (is_new) {
      Group& group = all.emplace_back();
      group.number = static_cast<int>(found->second);
      group.stages = stages[at];
      group.ranks = ranks;
    }
    all[found->second].members.push_back(at);
  }
  for (Group& group : all) {
    std::vector<std::int64_t> load(group.ranks.size());
    for (const std::size_t at : group.members) {
      const auto least = std::ranges::min_element(load);
      *least += sizes[at];
      home_[at] = group.ranks[static_cast<std::size_t>(least - load.begin())];
    }
    if (has(group.ranks, transport_.rank())) groups_.push_back(std::move(group));
  }
  std::ranges::stable_sort(groups_, std::greater(),
                           [](const Group& group) { return group.stages.front(); });
  for (std::size_t at = 0; at < names_.size(); ++at) {
    if (!has(owners_[at], transport_.rank())) continue;
    place_.emplace(at, parameters_.size());
    OwnedParameter& owned = parameters_.emplace_back();
    owned.name = names_[at];
    owned.ranks = owners_[at];
    owned.order = at;
  }
}

void Gradients::adopt(const std::vector<Stage*>& stages) {
  const torch::NoGradGuard no_grad;
  for (Stage* stage : stages) {
    held_.insert(stage->index());
    for (const auto& layer : stage->layers()) {
      for (Parameter& parameter : layer->parameters()) {
        const auto found =
            std::ranges::find(parameters_, parameter.spec.name, &OwnedParameter::name);
        assert(found != parameters_.end());
        if (found->owners.empty())
          found->value = parameter.value;
        else  // one storage, a leaf and a gradient for each owner
          parameter.value.set_data(found->value.detach());
        parameter.value.mutable_grad() = torch::zeros_like(parameter.value);
        found->owners.push_back(parameter.value);
      }
    }
  }
}

std::vector<OwnedParameter*> Gradients::to_update() {
  std::vector<OwnedParameter*> mine;
  for (OwnedParameter& parameter : parameters_)
    if (!sharded_ || home_[parameter.order] == transport_.rank()) mine.push_back(&parameter);
  return mine;
}

bool Gradients::any_shared() const {
  return std::ranges::any_of(owners_, [](const auto& ranks) { return ranks.size() > 1; });
}

std::vector<OwnedParameter*> Gradients::of_stage(Stage& stage) {
  std::vector<OwnedParameter*> mine;
  for (const auto& layer : stage.layers()) {
    for (Parameter& parameter : layer->parameters()) {
      const auto found = std::ranges::find(parameters_, parameter.spec.name, &OwnedParameter::name);
      found->value = parameter.value;
      found->owners = {parameter.value};
      found->gradient = parameter.value.grad();
      mine.push_back(&*found);
    }
  }
  return mine;
}

std::vector<OwnedParameter*> Gradients::at_home(const Group& group, int rank) {
  std::vector<OwnedParameter*> there;
  for (const std::size_t at : group.members)
    if (home_[at] == rank) there.push_back(&owned(at));
  return there;
}

Label Gradients::label(Purpose purpose, const Group& group, std::int64_t step) const {
  return {purpose, step, -1, group.number};
}

void Gradients::zero() {
  for (OwnedParameter& parameter : parameters_)
    for (torch::Tensor& owner : parameter.owners) owner.mutable_grad().zero_();
  done_.clear();
  begun_ = 0;
}

void Gradients::stage_done(int stage, std::int64_t step) {
  done_.insert(stage);
  start_ready(step, false);
}

void Gradients::start_ready(std::int64_t step, bool all) {
  for (; begun_ < groups_.size(); ++begun_) {
    Group& group = groups_[begun_];
    const auto waits = [&](int stage) { return held_.contains(stage) && !done_.contains(stage); };
    if (!all && std::ranges::any_of(group.stages, waits)) return;
    start(group, step);
  }
}

void Gradients::start(Group& group, std::int64_t step) {
  const int self = transport_.rank();
  const Label gradients = label(Purpose::SharedGradients, group, step);
  const bool home = !at_home(group, self).empty();
  for (const int other : group.ranks) {
    if (other == self) continue;
    if (home) group.gradients.emplace(other, transport_.receive(other, gradients));
    Tensors list;
    for (const OwnedParameter* parameter : at_home(group, other))
      for (const torch::Tensor& owner : parameter->owners) list.push_back(owner.grad());
    if (!list.empty()) transport_.send(other, gradients, list);
  }
}

void Gradients::add_up(Group& group, std::int64_t step) {
  const int self = transport_.rank();
  std::map<int, Tensors> pieces;
  for (auto& [other, arrival] : group.gradients) pieces.emplace(other, arrival->wait().tensors);
  group.gradients.clear();
  std::map<int, std::size_t> used;
  Tensors sums;
  for (OwnedParameter* parameter : at_home(group, self)) {
    torch::Tensor sum;
    std::size_t own = 0;
    for (const int rank : parameter->ranks) {
      const torch::Tensor next =
          rank == self ? parameter->owners[own++].grad() : pieces.at(rank).at(used[rank]++);
      sum = sum.defined() ? sum + next : next;
    }
    parameter->gradient = parameter->owners.front().grad().copy_(sum);
    sums.push_back(sum);
  }
  if (sharded_) return;
  for (const int other : group.ranks) {
    if (other == self) continue;
    const Label label_back = label(Purpose::SharedSums, group, step);
    if (!at_home(group, other).empty())
      group.returns.emplace(other, transport_.receive(other, label_back));
    if (!sums.empty()) transport_.send(other, label_back, sums);
  }
}

void Gradients::take_back(Group& group) {
  for (auto& [other, arrival] : group.returns) {
    const Tensors sums = arrival->wait().tensors;
    std::size_t next = 0;
    for (OwnedParameter* parameter : at_home(group, other))
      parameter->gradient = parameter->owners.front().grad().copy_(sums.at(next++));
  }
  group.returns.clear();
}

void Gradients::combine(std::int64_t step) {
  const torch::NoGradGuard no_grad;
  for (OwnedParameter& parameter : parameters_) {
    parameter.gradient = torch::Tensor();
    if (std::ranges::count(parameter.ranks, transport_.rank()) !=
        static_cast<std::ptrdiff_t>(parameter.ranks.size()))
      continue;
    parameter.gradient = parameter.owners.front().grad();
    for (std::size_t i = 1; i < parameter.owners.size(); ++i)
      parameter.gradient = parameter.gradient + parameter.owners[i].grad();
  }
  start_ready(step, true);
  for (Group& group : groups_) add_up(group, step);
  for (Group& group : groups_) take_back(group);
  transport_.flush();  // what has been sent from these gradients may now change
}

void Gradients::share_values(std::int64_t step) {
  if (!sharded_) return;
  const torch::NoGradGuard no_grad;
  const int self = transport_.rank();
  std::vector<std::pair<Group*, std::map<int, std::unique_ptr<Arrival>>>> arrivals;
  for (Group& group : groups_) {
    auto& expected = arrivals.emplace_back(&group, std::map<int, std::unique_ptr<Arrival>>());
    const Label values = label(Purpose::Parameters, group, step);
    Tensors list;
    for (const OwnedParameter* parameter : at_home(group, self))
      list.push_back(parameter->value.detach());
    for (const int other : group.ranks) {
      if (other == self) continue;
      if (!at_home(group, other).empty())
        expected.second.emplace(other, transport_.receive(other, values));
      if (!list.empty()) transport_.send(other, values, list);
    }
  }
  for (auto& [group, expected] : arrivals)
    for (auto& [other, arrival] : expected) {
      const Tensors list = arrival->wait().tensors;
      std::size_t next = 0;
      for (OwnedParameter* parameter : at_home(*group, other))
        parameter->value.detach().copy_(list.at(next++));
    }
}

std::vector<double> Gradients::squared_norms() {
  Tensors counted;
  for (const OwnedParameter& parameter : parameters_)
    if (home_[parameter.order] == transport_.rank()) counted.push_back(parameter.gradient);
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
    const auto rank = static_cast<std::size_t>(home_[at]);
    const double square = by_rank[rank].at(used[rank]++);
    if (!std::isfinite(square) && std::isfinite(sum) && worst != nullptr) *worst = names_[at];
    sum += square;
  }
  return std::sqrt(sum);
}

void Gradients::scale(double factor) {
  Tensors all;
  for (const OwnedParameter& parameter : parameters_)
    if (parameter.gradient.defined()) all.push_back(parameter.gradient);
  if (!all.empty()) torch::_foreach_mul_(all, factor);
}

}  // namespace headrace
