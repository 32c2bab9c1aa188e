#include "headrace/schedule/lower.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/depend.h"
#include "headrace/schedule/schedule.h"
#include "headrace/schedule/walk.h"

namespace headrace {
namespace {

// The schedule run on paper with F = I = W = 1 and B = 2: when sends and receives happen decides
// where they are placed. Whole numbers, so that ties are ties.
class Clock {
 public:
  Clock(const Schedule& schedule, const Dependencies& depend)
      : schedule_(schedule), depend_(depend), end_(depend.slots(), -1) {
    for (const std::vector<Action>& actions : schedule.ranks) starts_.emplace_back(actions.size());
    ends_ = starts_;
  }
  bool done(Slot slot) const { return end_[static_cast<std::size_t>(slot)] >= 0; }
  static Slot blocked_by(int /*rank*/, std::size_t /*at*/) { return -1; }
  void run(int rank, std::size_t at, std::size_t count) {
    const auto list = static_cast<std::size_t>(rank);
    const Action* actions = &schedule_.ranks[list][at];
    std::int64_t start = at > 0 ? ends_[list][at - 1] : 0;
    std::int64_t length = 0;
    for (std::size_t i = 0; i < count; ++i) {
      depend_.each(actions[i], [&](Kind kind, int stage, int microbatch) {
        const Slot slot = depend_.slot(kind, stage, microbatch);
        start = std::max(start, end_[static_cast<std::size_t>(slot)]);
      });
      length += actions[i].kind == Kind::Backward ? 2 : is_compute(actions[i].kind) ? 1 : 0;
    }
    for (std::size_t i = 0; i < count; ++i) {
      starts_[list][at + i] = start;
      ends_[list][at + i] = start + length;
      const Slot slot = depend_.slot(actions[i]);
      if (slot >= 0) end_[static_cast<std::size_t>(slot)] = start + length;
    }
  }
  void prefetch(int /*rank*/, Slot slot) const {
    if (slot >= 0) __builtin_prefetch(&end_[static_cast<std::size_t>(slot)], 1);
  }
  std::int64_t start(std::size_t rank, std::size_t at) const { return starts_[rank][at]; }
  std::int64_t end(std::size_t rank, std::size_t at) const { return ends_[rank][at]; }

 private:
  const Schedule& schedule_;
  const Dependencies& depend_;
  std::vector<std::int64_t> end_;  // by slot
  std::vector<std::vector<std::int64_t>> starts_;
  std::vector<std::vector<std::int64_t>> ends_;
};

struct Message {
  std::int64_t sent = 0;
  int sender = 0;
  Action receive;
};

// The send that an action calls for; false where its result stays on the rank or ends there.
bool send_after(const Schedule& schedule,
                const Dependencies& depend,
                const Action& a,
                Action& send) {
  if (a.kind == Kind::Forward) {
    send = {.kind = Kind::SendForward, .stage = a.stage, .microbatch = a.microbatch};
    if (a.stage + 1 == schedule.placement.stages()) return false;
  } else if (a.kind == Kind::Backward || a.kind == Kind::BackwardInput) {
    send = {.kind = Kind::SendBackward, .stage = a.stage, .microbatch = a.microbatch};
    if (a.stage == 0) return false;
  } else {
    return false;
  }
  const int peer_stage = Dependencies::other_end(send).stage;
  return depend.rank(peer_stage, a.microbatch) != depend.rank(a.stage, a.microbatch);
}

// For each rank, what is sent to it, in the order of sending.
std::vector<std::vector<Message>> messages_to(const Schedule& schedule,
                                              const Dependencies& depend,
                                              const Clock& clock) {
  std::vector<std::vector<Message>> to(schedule.ranks.size());
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    for (std::size_t at = 0; at < schedule.ranks[rank].size(); ++at) {
      Action send;
      if (!send_after(schedule, depend, schedule.ranks[rank][at], send)) continue;
      const Action receive = Dependencies::other_end(send);
      const int peer = depend.rank(receive.stage, receive.microbatch);
      to[static_cast<std::size_t>(peer)].push_back(
          {clock.end(rank, at), static_cast<int>(rank), receive});
    }
  }
  // Stable: of one sender they are in order already.
  for (std::vector<Message>& messages : to) std::ranges::stable_sort(messages, {}, &Message::sent);
  return to;
}

// The positions on a rank before which (updates) or after which (the last backward) a stage's
// gradients are to be reduced.
std::vector<char> reductions(const Schedule& schedule, std::size_t rank, bool updates) {
  const std::vector<Action>& actions = schedule.ranks[rank];
  std::vector<char> marks(actions.size());
  std::vector<int> seen;  // stages whose last backward, or whose reduction, is behind us
  for (std::size_t at = actions.size(); at-- > 0;) {
    const Action& a = actions[at];
    if (updates) {
      marks[at] = a.kind == Kind::Update && schedule.placement.replicas(a.stage) > 1;
      continue;
    }
    const bool adds =
        a.kind == Kind::Backward || a.kind == Kind::BackwardInput || a.kind == Kind::BackwardWeight;
    if ((!adds && a.kind != Kind::ReduceGradients) || std::ranges::count(seen, a.stage) > 0)
      continue;
    seen.push_back(a.stage);
    marks[at] = adds;
  }
  return marks;
}

class Lowering {
 public:
  Lowering(const Schedule& schedule, const Dependencies& depend, const Clock& clock, Receives rule)
      : schedule_(schedule), depend_(depend), clock_(clock), rule_(rule) {
    for (const auto& actions : schedule.ranks)
      updates_ |=
          std::ranges::any_of(actions, [](const Action& a) { return a.kind == Kind::Update; });
  }

  std::vector<Action> rank(std::size_t rank, const std::vector<Message>& messages) const {
    const std::vector<Action>& actions = schedule_.ranks[rank];
    const std::vector<char> reduce = reductions(schedule_, rank, updates_);
    std::vector<Action> lowered;
    lowered.reserve(2 * actions.size() + messages.size() + 2);
    std::size_t received = 0;
    for (std::size_t at = 0; at < actions.size();) {
      const std::size_t count = group_size(actions, at);
      while (received < messages.size() && before(messages[received], rank, at, at + count))
        lowered.push_back(messages[received++].receive);
      const auto add_reduction = [&](std::size_t i) {
        if (reduce[i] != 0)
          lowered.push_back({.kind = Kind::ReduceGradients, .stage = actions[i].stage});
      };
      for (std::size_t i = at; i < at + count; ++i) {
        if (updates_) add_reduction(i);
        lowered.push_back(actions[i]);
      }
      for (std::size_t i = at; i < at + count; ++i) {
        Action send;
        if (send_after(schedule_, depend_, actions[i], send)) lowered.push_back(send);
      }
      for (std::size_t i = at; i < at + count && !updates_; ++i) add_reduction(i);
      at += count;
    }
    return lowered;
  }

 private:
  // Whether a receive is placed before the group of actions that starts at `at`, given that all
  // earlier groups have been passed.
  bool before(const Message& message, std::size_t rank, std::size_t at, std::size_t next) const {
    if (rule_ == Receives::Early)
      return next == schedule_.ranks[rank].size() || message.sent <= clock_.start(rank, next);
    const std::int64_t end = clock_.end(rank, at);
    return message.sent < end || (message.sent == end && message.sender < static_cast<int>(rank));
  }

  const Schedule& schedule_;
  const Dependencies& depend_;
  const Clock& clock_;
  Receives rule_;
  bool updates_ = false;
};

Schedule with_transfers(const Schedule& schedule, Receives rule) {
  require_places(schedule);
  const Dependencies depend(schedule);
  std::size_t actions = 0;
  for (const std::vector<Action>& list : schedule.ranks) actions += list.size();
  // The clock's times, and lists of about twice the length.
  require_memory(
      static_cast<double>(depend.slots()) * sizeof(std::int64_t) +
          static_cast<double>(actions) * 2 * (sizeof(std::int64_t) + sizeof(Action)),
      cat("adding sends and receives to the ", count_text(static_cast<std::int64_t>(actions)),
          " actions of ", schedule.name));
  Clock clock(schedule, depend);
  require_complete(schedule, depend, walk(schedule, depend, clock));
  const std::vector<std::vector<Message>> messages = messages_to(schedule, depend, clock);
  const Lowering lowering(schedule, depend, clock, rule);
  Schedule lowered = schedule;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank)
    lowered.ranks[rank] = lowering.rank(rank, messages[rank]);
  return lowered;
}

}  // namespace

Schedule lower(const Schedule& schedule, Receives rule) {
  if (has_transfers(schedule)) return schedule;
  return naming_memory(cat("adding sends and receives to ", schedule.name),
                       [&] { return with_transfers(schedule, rule); });
}

}  // namespace headrace
