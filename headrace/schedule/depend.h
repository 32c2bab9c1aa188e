// What must be done before an action: stated once, here, for the checker, the simulator, the
// lowering and the drawing.
//
//   F(s,m)        after F(s-1,m)
//   B(s,m), I     after B or I(s+1,m), and after F(s,m)
//   W(s,m)        after I(s,m)
//   SEND_F(s,m)   after F(s,m);  SEND_B(s,m) after B or I(s,m)
//
// Where the schedule holds transfers, a tensor that comes from another rank comes by its message:
// F(s,m) needs RECV_F(s,m) before it on its rank and SEND_F(s-1,m) done on the other. With
// sequence splits, a forward also needs the split before, a backward the split after. Gradient
// reductions and updates need what stands before them on their rank, which order already says.
//
// Longer than a header should be because all of it is called for every action, and must be inlined.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "headrace/schedule/action.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

// Places in flat tables for what others can wait for: one for each thing, stage and microbatch. B
// and I share a place, as whoever waits for one takes the other. -1: nobody waits for it.
using Slot = std::int64_t;

class Dependencies {
 public:
  explicit Dependencies(const Schedule& schedule)
      : stages_(schedule.placement.stages()),
        microbatches_(schedule.microbatches),
        splits_(schedule.sequence_splits),
        transfers_(has_transfers(schedule)),
        placement_(&schedule.placement) {
    for (const std::vector<int>& owners : schedule.placement.owners)
      sole_owner_.push_back(owners.size() == 1 ? owners[0] : -1);
  }

  bool transfers() const { return transfers_; }
  int rank(int stage, int microbatch) const {
    const int sole = sole_owner_[static_cast<std::size_t>(stage)];
    return sole >= 0 ? sole : placement_->rank(stage, microbatch);
  }

  // Whether an action's stage and microbatch exist, and those of its message's other end.
  bool holds(const Action& a) const {
    if (a.stage < 0 || a.stage >= stages_) return false;
    if (!has_microbatch(a.kind)) return true;
    if (a.microbatch < 0 || a.microbatch >= microbatches_) return false;
    if (!is_send(a.kind) && !is_recv(a.kind)) return true;
    const int other = other_end(a).stage;
    return other >= 0 && other < stages_;
  }

  std::size_t slots() const {
    return static_cast<std::size_t>(stages_) * static_cast<std::size_t>(microbatches_) *
           static_cast<std::size_t>(width());
  }
  Slot slot(Kind kind, int stage, int microbatch) const {
    const int column = column_of(kind);
    if (column < 0 || column >= width()) return -1;
    return (static_cast<Slot>(stage) * microbatches_ + microbatch) * width() + column;
  }
  Slot slot(const Action& action) const {
    return slot(action.kind, action.stage, action.microbatch);
  }
  // The action a slot stands for (Backward for B or I), for messages.
  Action action_of(Slot slot) const {
    const Slot pair = slot / width();
    return {.kind = kColumns[slot % width()],
            .stage = static_cast<int>(pair / microbatches_),
            .microbatch = static_cast<int>(pair % microbatches_)};
  }

  // Calls need(kind, stage, microbatch) for each; Kind::Backward stands for B or I.
  template <class Need>
  void each(const Action& a, Need&& need) const {
    switch (a.kind) {
      case Kind::Forward:
        if (a.stage > 0) {
          if (by_message(a.stage - 1, a)) {
            need(Kind::RecvForward, a.stage, a.microbatch);
            need(Kind::SendForward, a.stage - 1, a.microbatch);
          } else {
            need(Kind::Forward, a.stage - 1, a.microbatch);
          }
        }
        if (splits_ > 1 && a.microbatch % splits_ > 0)
          need(Kind::Forward, a.stage, a.microbatch - 1);
        break;
      case Kind::Backward:
      case Kind::BackwardInput:
        need(Kind::Forward, a.stage, a.microbatch);
        if (a.stage + 1 < stages_) {
          if (by_message(a.stage + 1, a)) {
            need(Kind::RecvBackward, a.stage, a.microbatch);
            need(Kind::SendBackward, a.stage + 1, a.microbatch);
          } else {
            need(Kind::Backward, a.stage + 1, a.microbatch);
          }
        }
        if (splits_ > 1 && a.microbatch % splits_ < splits_ - 1 && a.microbatch + 1 < microbatches_)
          need(Kind::Backward, a.stage, a.microbatch + 1);
        break;
      case Kind::BackwardWeight:
      case Kind::SendBackward:
        need(Kind::Backward, a.stage, a.microbatch);
        break;
      case Kind::SendForward:
        need(Kind::Forward, a.stage, a.microbatch);
        break;
      case Kind::RecvForward:
      case Kind::RecvBackward:
      case Kind::ReduceGradients:
      case Kind::Update:
        break;
    }
  }

  // The other end of a message: "0SEND_F3" and "1RECV_F3", "2SEND_B1" and "1RECV_B1".
  static Action other_end(const Action& a) {
    switch (a.kind) {
      case Kind::SendForward:
        return {.kind = Kind::RecvForward, .stage = a.stage + 1, .microbatch = a.microbatch};
      case Kind::RecvForward:
        return {.kind = Kind::SendForward, .stage = a.stage - 1, .microbatch = a.microbatch};
      case Kind::SendBackward:
        return {.kind = Kind::RecvBackward, .stage = a.stage - 1, .microbatch = a.microbatch};
      default:
        return {.kind = Kind::SendBackward, .stage = a.stage + 1, .microbatch = a.microbatch};
    }
  }

  // The rank other than its own on which something may wait for this action; -1: none.
  int waiter(const Action& a) const {
    int stage = -1;
    switch (a.kind) {
      case Kind::Forward:
        stage = transfers_ ? -1 : a.stage + 1;
        break;
      case Kind::Backward:
      case Kind::BackwardInput:
        stage = transfers_ ? -1 : a.stage - 1;
        break;
      case Kind::SendForward:
      case Kind::RecvBackward:
        stage = a.stage + 1;
        break;
      case Kind::SendBackward:
      case Kind::RecvForward:
        stage = a.stage - 1;
        break;
      default:
        break;
    }
    return stage >= 0 && stage < stages_ ? rank(stage, a.microbatch) : -1;
  }

 private:
  static constexpr Kind kColumns[] = {Kind::Forward,     Kind::Backward,     Kind::SendForward,
                                      Kind::RecvForward, Kind::SendBackward, Kind::RecvBackward};
  static constexpr int column_of(Kind kind) {
    switch (kind) {
      case Kind::Forward:
        return 0;
      case Kind::Backward:
      case Kind::BackwardInput:
        return 1;
      case Kind::SendForward:
        return 2;
      case Kind::RecvForward:
        return 3;
      case Kind::SendBackward:
        return 4;
      case Kind::RecvBackward:
        return 5;
      default:
        return -1;
    }
  }
  int width() const { return transfers_ ? 6 : 2; }
  bool by_message(int from_stage, const Action& a) const {
    return transfers_ && rank(from_stage, a.microbatch) != rank(a.stage, a.microbatch);
  }

  int stages_;
  int microbatches_;
  int splits_;
  bool transfers_;
  const Placement* placement_;
  std::vector<int> sole_owner_;  // for each stage; -1 where it has replicas
};

}  // namespace headrace
