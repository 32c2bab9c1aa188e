// Takes all ranks through their lists, each in order, an action only after what it needs: the loop
// that the checker, the lowering and the simulator share. Linear in the number of actions.
//
// The state says what is done and does it:
//
//   bool done(Slot) const;
//   Slot blocked_by(int rank, std::size_t at) const;        // beyond what it needs; -1: by nothing
//   void run(int rank, std::size_t at, std::size_t count);  // an action, or an overlapped pair
//   void prefetch(int rank, Slot) const;                    // the slot is needed soon (or is -1)
//
// A rank runs until it is blocked, and whoever does what it waits for wakes it; so times must
// follow from what is needed, not from the order of the calls, which is only a valid one.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "headrace/schedule/depend.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

// Where a walk ended: every rank at the end of its list, or some blocked.
struct Halt {
  std::vector<std::size_t> at;  // for each rank, its position; the list's size when it is done
  std::vector<Slot> waits;      // for each rank, what it waits for; -1 when it is done
  bool complete = true;
};

// The number of actions that run as one from here on: 2 for an overlapped pair.
inline std::size_t group_size(const std::vector<Action>& actions, std::size_t at) {
  return actions[at].overlaps_next && at + 1 < actions.size() ? 2 : 1;
}

template <class State>
Halt walk(const Schedule& schedule, const Dependencies& depend, State& state) {
  const std::size_t ranks = schedule.ranks.size();
  Halt halt = {.at = std::vector<std::size_t>(ranks), .waits = std::vector<Slot>(ranks, -1)};
  std::vector<int> runnable;
  for (std::size_t rank = ranks; rank-- > 0;) runnable.push_back(static_cast<int>(rank));
  while (!runnable.empty()) {
    const int rank = runnable.back();
    runnable.pop_back();
    const std::vector<Action>& actions = schedule.ranks[static_cast<std::size_t>(rank)];
    std::size_t& at = halt.at[static_cast<std::size_t>(rank)];
    while (at < actions.size()) {
      const std::size_t count = group_size(actions, at);
      Slot missing = -1;
      for (std::size_t i = 0; i < count && missing < 0; ++i) {
        const Action& action = actions[at + i];
        depend.each(action, [&](Kind kind, int stage, int microbatch) {
          const Slot needed = depend.slot(kind, stage, microbatch);
          if (missing < 0 && !state.done(needed)) missing = needed;
        });
        if (missing < 0) missing = state.blocked_by(rank, at + i);
      }
      if (missing >= 0) {
        halt.waits[static_cast<std::size_t>(rank)] = missing;
        break;
      }
      state.run(rank, at, count);
      for (std::size_t i = 0; i < count; ++i) {
        const Action& action = actions[at + i];
        const int waiter = depend.waiter(action);
        if (waiter < 0) continue;
        Slot& waited = halt.waits[static_cast<std::size_t>(waiter)];
        if (waited < 0 || waited != depend.slot(action)) continue;
        waited = -1;
        runnable.push_back(waiter);
      }
      at += count;
      // With many ranks, each comes back to its list after all others: fetch what it needs then.
      if (at + 8 < actions.size()) {
        __builtin_prefetch(&actions[at + 8]);
        state.prefetch(rank, depend.slot(actions[at + 4]));
      }
    }
  }
  for (std::size_t rank = 0; rank < ranks; ++rank)
    halt.complete = halt.complete && halt.at[rank] == schedule.ranks[rank].size();
  return halt;
}

// The rings of ranks that wait for one another; empty where every blocked rank waits for what no
// list holds.
std::vector<std::vector<int>> waiting_rings(const Dependencies& depend, const Halt& halt);

// "rank 0 at position 2 (0SEND_F1) waits for 1RECV_F1 of rank 1; rank 1 at …", the first few.
std::string waiting_text(const Schedule& schedule,
                         const Dependencies& depend,
                         const Halt& halt,
                         const std::vector<int>& ranks);

// Throws Error naming who waits for whom, unless the walk is complete.
void require_complete(const Schedule& schedule, const Dependencies& depend, const Halt& halt);

// Throws Error at the first action that is out of range or on a rank that does not hold it: a walk
// may only be started after this.
void require_places(const Schedule& schedule);

}  // namespace headrace
