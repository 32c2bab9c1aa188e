#include "headrace/schedule/walk.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/depend.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

// The rank whose list should hold what is missing.
int rank_of(const Dependencies& depend, Slot slot) {
  const Action action = depend.action_of(slot);
  return depend.rank(action.stage, action.microbatch);
}

}  // namespace

std::vector<std::vector<int>> waiting_rings(const Dependencies& depend, const Halt& halt) {
  // Each blocked rank waits for one other, so following the waits either comes round or ends at a
  // rank that has finished. `reached` holds the start from which a rank was first come to.
  std::vector<std::vector<int>> rings;
  std::vector<int> reached(halt.waits.size(), -1);
  const auto blocked = [&](int rank) { return halt.waits[static_cast<std::size_t>(rank)] >= 0; };
  const auto next = [&](int rank) {
    return rank_of(depend, halt.waits[static_cast<std::size_t>(rank)]);
  };
  const int ranks = static_cast<int>(halt.waits.size());
  for (int start = 0; start < ranks; ++start) {
    int rank = start;
    while (blocked(rank) && reached[static_cast<std::size_t>(rank)] < 0) {
      reached[static_cast<std::size_t>(rank)] = start;
      rank = next(rank);
    }
    if (!blocked(rank) || reached[static_cast<std::size_t>(rank)] != start) continue;
    std::vector<int>& ring = rings.emplace_back();
    const int first = rank;
    do {
      ring.push_back(rank);
      rank = next(rank);
    } while (rank != first);
    // The walk from a later start that runs into this ring must not find it again.
    for (const int member : ring) reached[static_cast<std::size_t>(member)] = ranks;
  }
  return rings;
}

std::string waiting_text(const Schedule& schedule,
                         const Dependencies& depend,
                         const Halt& halt,
                         const std::vector<int>& ranks) {
  constexpr std::size_t kShown = 8;
  std::string text;
  for (std::size_t i = 0; i < std::min(ranks.size(), kShown); ++i) {
    const auto rank = static_cast<std::size_t>(ranks[i]);
    const std::size_t at = halt.at[rank];
    const Slot slot = halt.waits[rank];
    text += cat(i > 0 ? "; " : "", "rank ", rank, " at position ", at, " (",
                to_string(schedule.ranks[rank][at]), ") waits for ",
                to_string(depend.action_of(slot)), " of rank ", rank_of(depend, slot));
  }
  if (ranks.size() > kShown) text += cat("; and ", ranks.size() - kShown, " ranks more");
  return text;
}

void require_complete(const Schedule& schedule, const Dependencies& depend, const Halt& halt) {
  if (halt.complete) return;
  const std::vector<std::vector<int>> rings = waiting_rings(depend, halt);
  std::vector<int> blocked;
  for (std::size_t rank = 0; rank < halt.waits.size(); ++rank) {
    if (halt.waits[rank] >= 0) blocked.push_back(static_cast<int>(rank));
  }
  throw Error(cat("schedule ", schedule.name, " cannot run: ",
                  waiting_text(schedule, depend, halt, rings.empty() ? blocked : rings[0])));
}

void require_places(const Schedule& schedule) {
  const Placement& placement = schedule.placement;
  check(static_cast<std::size_t>(placement.ranks) == schedule.ranks.size(), "schedule ",
        schedule.name, " holds ", schedule.ranks.size(), " lists for ", placement.ranks, " ranks");
  check(schedule.microbatches >= 1 && schedule.sequence_splits >= 1, "schedule ", schedule.name,
        " holds no microbatch");
  for (const std::vector<int>& owners : placement.owners) {
    const auto outside = [&](int rank) { return rank < 0 || rank >= placement.ranks; };
    check(!owners.empty() && std::ranges::none_of(owners, outside), "schedule ", schedule.name,
          " has a stage on no rank");
  }
  const Dependencies depend(schedule);
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    for (std::size_t at = 0; at < schedule.ranks[rank].size(); ++at) {
      const Action& action = schedule.ranks[rank][at];
      const bool in_range = depend.holds(action);
      if (in_range && (!has_microbatch(action.kind) ||
                       depend.rank(action.stage, action.microbatch) == static_cast<int>(rank)))
        continue;
      throw Error(cat("schedule ", schedule.name, " cannot run: rank ", rank, ", position ", at,
                      ", ", to_string(action), ": ",
                      in_range ? "its stage is on another rank" : "is out of range"));
    }
  }
}

}  // namespace headrace
