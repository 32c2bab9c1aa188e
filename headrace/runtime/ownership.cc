#include "headrace/runtime/ownership.h"

#include <algorithm>
#include <map>
#include <utility>

namespace headrace {
namespace {

bool has(const std::vector<int>& values, int value) {
  return std::ranges::find(values, value) != values.end();
}

std::int64_t elements_of(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

template <class Wanted>
std::vector<std::size_t> places(const std::vector<Ownership::Parameter>& parameters,
                                const Wanted& wanted) {
  std::vector<std::size_t> found;
  for (std::size_t at = 0; at < parameters.size(); ++at)
    if (wanted(parameters[at])) found.push_back(at);
  return found;
}

}  // namespace

bool Ownership::Parameter::is_only_on(int rank) const {
  return std::ranges::all_of(owners, [&](int owner) { return owner == rank; });
}

std::vector<std::size_t> Ownership::owned_by(int rank) const {
  return places(parameters, [&](const Parameter& p) { return has(p.owners, rank); });
}

std::vector<std::size_t> Ownership::at_home(int rank) const {
  return places(parameters, [&](const Parameter& p) { return p.home == rank; });
}

bool Ownership::any_shared() const {
  return std::ranges::any_of(parameters, [](const Parameter& p) { return p.owners.size() > 1; });
}

Ownership ownership_of(const Plan& plan) {
  Ownership result;
  std::map<std::string, std::size_t> place_of;
  std::vector<std::vector<int>> stages;  // of each parameter's owners
  for (std::size_t layer = 0; layer < plan.layers.size(); ++layer) {
    const int stage = plan.stage_of(static_cast<int>(layer));
    const auto& replicas = plan.placement.owners[static_cast<std::size_t>(stage)];
    for (const ParameterSpec& spec : plan.layers[layer].parameters) {
      const auto [found, is_new] = place_of.emplace(spec.name, result.parameters.size());
      if (is_new) {
        result.parameters.push_back({spec.name, spec.shape, {}, 0});
        stages.emplace_back();
      }
      auto& owners = result.parameters[found->second].owners;
      owners.insert(owners.end(), replicas.begin(), replicas.end());
      if (!has(stages[found->second], stage)) stages[found->second].push_back(stage);
    }
  }
  std::map<std::pair<std::vector<int>, std::vector<int>>, std::size_t> known;
  for (std::size_t at = 0; at < result.parameters.size(); ++at) {
    Ownership::Parameter& parameter = result.parameters[at];
    parameter.home = parameter.owners.front();
    std::vector<int> ranks;
    for (const int rank : parameter.owners)
      if (!has(ranks, rank)) ranks.push_back(rank);
    if (ranks.size() == 1) continue;
    std::ranges::sort(stages[at]);
    const auto [found, is_new] =
        known.emplace(std::pair(stages[at], parameter.owners), result.groups.size());
    if (is_new) result.groups.push_back({stages[at], ranks, {}});
    result.groups[found->second].members.push_back(at);
  }
  for (const Ownership::Group& group : result.groups) {
    std::vector<std::int64_t> load(group.ranks.size());
    for (const std::size_t at : group.members) {
      const auto least = std::ranges::min_element(load);
      *least += elements_of(result.parameters[at].shape);
      result.parameters[at].home = group.ranks[static_cast<std::size_t>(least - load.begin())];
    }
  }
  return result;
}

}  // namespace headrace
