// What the generators share: short names for actions, the shape all 1F1B variants have, costs, and
// the words of refusals.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

constexpr Action forward(int stage, int microbatch) {
  return {Kind::Forward, stage, microbatch};
}
constexpr Action backward(int stage, int microbatch) {
  return {Kind::Backward, stage, microbatch};
}
constexpr Action backward_input(int stage, int microbatch) {
  return {Kind::BackwardInput, stage, microbatch};
}
constexpr Action backward_weight(int stage, int microbatch) {
  return {Kind::BackwardWeight, stage, microbatch};
}
constexpr Action update(int stage) {
  return {Kind::Update, stage, -1};
}

// A schedule without actions yet. Refuses costs that are not for this many stages.
Schedule empty_schedule(std::string_view name,
                        Placement placement,
                        const GeneratorOptions& options);

// `warmup` forwards, then a forward and a backward by turns, then the backwards left: `units` of
// each. The callbacks are given 0, 1, 2, … and append to the rank's list.
template <class Forward, class Backward>
void one_by_one(int units, int warmup, Forward&& next_forward, Backward&& next_backward) {
  warmup = std::min(warmup, units);
  for (int k = 0; k < warmup; ++k) next_forward(k);
  for (int k = warmup; k < units; ++k) {
    next_forward(k);
    next_backward(k - warmup);
  }
  for (int k = units - warmup; k < units; ++k) next_backward(k);
}

// A rule's answer: nothing where it is kept, else the text.
template <class... Parts>
Refusal unless(bool kept, const Parts&... why) {
  if (kept) return std::nullopt;
  return cat(why...);
}

// The end of a refusal: "; the nearest that work are 4 and 6", or " works is 2" where both are 2.
std::string nearest_sizes(int below, int above);

// What the generators that are fitted to costs count with: the time and the memory of each part of
// a stage's work, and of a transfer.
struct StageTimes {
  double forward;
  double backward_input;
  double backward_weight;
};
StageTimes times_of(const Costs& costs, int stage);
// Refuses a list of costs of another length than 1 or the number of stages, and costs that are not
// finite, or times below 0.
void require_costs(const Costs& costs, int stages);
double transfer_time(const Costs& costs);

// The limit of one rank: unlimited where none is given. Refuses a list of another length than 1 or
// P.
double memory_limit_of(const GeneratorOptions& options, int rank);

// The rank's own list.
inline std::vector<Action>& list_of(Schedule& schedule, int rank) {
  return schedule.ranks[static_cast<std::size_t>(rank)];
}

}  // namespace headrace
