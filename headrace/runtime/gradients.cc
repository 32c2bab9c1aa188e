#include "headrace/runtime/gradients.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

namespace headrace {

Gradients::Gradients(Transport& transport,
                     const Ownership& ownership,
                     Weights& weights,
                     const std::vector<int>& stages,
                     bool sharded)
    : transport_(transport),
      ownership_(ownership),
      weights_(weights),
      stages_(stages.begin(), stages.end()),
      sharded_(sharded),
      sums_(weights.size()) {
  for (std::size_t number = 0; number < ownership.groups.size(); ++number) {
    const std::vector<int>& ranks = ownership.groups[number].ranks;
    if (std::ranges::find(ranks, transport.rank()) != ranks.end())
      groups_.push_back({static_cast<int>(number), {}, {}});
  }
  std::ranges::stable_sort(groups_, std::greater(),
                           [this](const Group& group) { return of(group).stages.front(); });
}

const Ownership::Group& Gradients::of(const Group& group) const {
  return ownership_.groups[static_cast<std::size_t>(group.number)];
}

std::vector<std::size_t> Gradients::to_update() const {
  std::vector<std::size_t> mine;
  for (std::size_t i = 0; i < weights_.size(); ++i)
    if (!sharded_ || ownership_.parameters[weights_.order(i)].home == transport_.rank())
      mine.push_back(i);
  return mine;
}

std::vector<std::size_t> Gradients::at_home(const Group& group, int rank) const {
  std::vector<std::size_t> there;
  for (const std::size_t order : of(group).members)
    if (ownership_.parameters[order].home == rank) there.push_back(weights_.index_of(order));
  return there;
}

Label Gradients::label(Purpose purpose, const Group& group, std::int64_t step) const {
  return {purpose, step, -1, group.number};
}

void Gradients::zero() {
  weights_.zero_gradients();
  done_.clear();
  begun_ = 0;
}

void Gradients::stage_done(int stage, std::int64_t step) {
  done_.insert(stage);
  start_ready(step, false);
}

void Gradients::start_ready(std::int64_t step, bool all) {
  for (; begun_ < groups_.size(); ++begun_) {
    const auto waits = [&](int stage) { return stages_.contains(stage) && !done_.contains(stage); };
    if (!all && std::ranges::any_of(of(groups_[begun_]).stages, waits)) return;
    start(groups_[begun_], step);
  }
}

void Gradients::start(Group& group, std::int64_t step) {
  const int self = transport_.rank();
  const Label gradients = label(Purpose::SharedGradients, group, step);
  const bool home = !at_home(group, self).empty();
  for (const int other : of(group).ranks) {
    if (other == self) continue;
    if (home) group.gradients.emplace(other, transport_.receive(other, gradients));
    Tensors list;
    for (const std::size_t i : at_home(group, other))
      for (torch::Tensor& gradient : weights_.gradients(i)) list.push_back(std::move(gradient));
    if (!list.empty()) transport_.send(other, gradients, list);
  }
}

void Gradients::set_sum(std::size_t i, const torch::Tensor& sum) {
  sums_[i] = weights_.gradients(i).front().copy_(sum);
}

void Gradients::add_up(Group& group, std::int64_t step) {
  const int self = transport_.rank();
  std::map<int, Tensors> pieces;
  for (auto& [other, arrival] : group.gradients) pieces.emplace(other, arrival->wait().tensors);
  group.gradients.clear();
  std::map<int, std::size_t> used;
  Tensors sums;
  for (const std::size_t i : at_home(group, self)) {
    const Tensors own = weights_.gradients(i);
    torch::Tensor sum;
    std::size_t next_own = 0;
    for (const int rank : ownership_.parameters[weights_.order(i)].owners) {
      const torch::Tensor next = rank == self ? own[next_own++] : pieces.at(rank).at(used[rank]++);
      sum = sum.defined() ? sum + next : next;
    }
    set_sum(i, sum);
    sums.push_back(sum);
  }
  if (sharded_) return;
  for (const int other : of(group).ranks) {
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
    for (const std::size_t i : at_home(group, other)) set_sum(i, sums.at(next++));
  }
  group.returns.clear();
}

void Gradients::combine(std::int64_t step) {
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    sums_[i] = torch::Tensor();
    if (!ownership_.parameters[weights_.order(i)].is_only_on(transport_.rank())) continue;
    const Tensors own = weights_.gradients(i);
    sums_[i] = own.front();
    for (std::size_t k = 1; k < own.size(); ++k) sums_[i].add_(own[k]);
  }
  start_ready(step, true);
  for (Group& group : groups_) add_up(group, step);
  for (Group& group : groups_) take_back(group);
  if (!groups_.empty())
    transport_.flush();  // what has been sent from these gradients may now change
}

void Gradients::share_values(std::int64_t step) {
  if (!sharded_) return;
  const torch::NoGradGuard no_grad;
  const int self = transport_.rank();
  std::vector<std::pair<const Group*, std::map<int, std::unique_ptr<Arrival>>>> arrivals;
  for (const Group& group : groups_) {
    auto& expected = arrivals.emplace_back(&group, std::map<int, std::unique_ptr<Arrival>>());
    const Label values = label(Purpose::Parameters, group, step);
    Tensors list;
    for (const std::size_t i : at_home(group, self)) list.push_back(weights_.value(i));
    for (const int other : of(group).ranks) {
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
      for (const std::size_t i : at_home(*group, other)) weights_.value(i).copy_(list.at(next++));
    }
}

Tensors Gradients::norms() const {
  Tensors counted;
  for (std::size_t i = 0; i < weights_.size(); ++i)
    if (ownership_.parameters[weights_.order(i)].home == transport_.rank())
      counted.push_back(sums_[i]);
  return counted.empty() ? Tensors() : torch::_foreach_norm(counted);
}

double Gradients::total_norm(const std::vector<std::vector<double>>& by_rank,
                             std::string* worst) const {
  std::vector<std::size_t> used(by_rank.size(), 0);
  double sum = 0;
  for (const Ownership::Parameter& parameter : ownership_.parameters) {
    const auto rank = static_cast<std::size_t>(parameter.home);
    const double square = by_rank[rank].at(used[rank]++);
    if (!std::isfinite(square) && std::isfinite(sum) && worst != nullptr) *worst = parameter.name;
    sum += square;
  }
  return std::sqrt(sum);
}

void Gradients::scale(double factor) {
  Tensors all;
  for (const torch::Tensor& sum : sums_)
    if (sum.defined()) all.push_back(sum);
  if (!all.empty()) torch::_foreach_mul_(all, factor);
}

}  // namespace headrace
