// Executes a schedule naively, for tests: messages carry who they are, channels are first in first
// out, and a send lasts until its receive has been posted. It shares nothing with the checker.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "headrace/schedule/action.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

class BruteForce {
 public:
  explicit BruteForce(const Schedule& schedule) : s_(schedule), sends_(has_transfers(schedule)) {}

  // Empty where every microbatch goes through every stage once, there and back, with its own
  // tensors, and gradients add up in ascending order; else what went wrong.
  std::string run() {
    std::map<int, std::size_t> at;
    for (bool moved = true; moved && wrong_.empty();) {
      moved = false;
      for (std::size_t rank = 0; rank < s_.ranks.size(); ++rank) {
        while (at[static_cast<int>(rank)] < s_.ranks[rank].size() && wrong_.empty()) {
          if (!try_action(static_cast<int>(rank), s_.ranks[rank][at[static_cast<int>(rank)]]))
            break;
          ++at[static_cast<int>(rank)];
          moved = true;
        }
      }
    }
    if (!wrong_.empty()) return wrong_;
    for (std::size_t rank = 0; rank < s_.ranks.size(); ++rank) {
      if (at[static_cast<int>(rank)] < s_.ranks[rank].size())
        return "stuck at " + to_string(s_.ranks[rank][at[static_cast<int>(rank)]]);
    }
    return finish();
  }

 private:
  using Key = std::tuple<Kind, int, int>;  // stage that takes it

  bool fail(const Action& a, const std::string& why) {
    wrong_ = to_string(a) + " " + why;
    return true;
  }
  int owner(int stage, int m) const { return s_.placement.rank(stage, m); }
  bool in_range(const Action& a) const {
    return a.stage >= 0 && a.stage < s_.placement.stages() &&
           (a.microbatch < 0 || a.microbatch < s_.microbatches);
  }

  // True when the action is done (or wrong), false when it must wait.
  bool try_action(int rank, const Action& a) {
    if (!in_range(a)) return fail(a, "is out of range");
    if (a.microbatch >= 0 && owner(a.stage, a.microbatch) != rank)
      return fail(a, "is on the wrong rank");
    const int last = s_.placement.stages() - 1;
    const Key own{Kind::Forward, a.stage, a.microbatch};
    switch (a.kind) {
      case Kind::Forward:
        return compute(rank, a, Kind::Forward, a.stage == 0, a.stage - 1);
      case Kind::Backward:
      case Kind::BackwardInput:
        if (!done_.contains(own)) return fail(a, "has no forward");
        return compute(rank, a, Kind::Backward, a.stage == last, a.stage + 1);
      case Kind::BackwardWeight:
        if (!halves_.erase({a.stage, a.microbatch})) return fail(a, "has no input half");
        return add_gradient(rank, a);
      case Kind::SendForward:
        return send(rank, a, Kind::Forward, a.stage + 1);
      case Kind::SendBackward:
        return send(rank, a, Kind::Backward, a.stage - 1);
      case Kind::RecvForward:
        return receive(rank, a, Kind::Forward, a.stage - 1);
      case Kind::RecvBackward:
        return receive(rank, a, Kind::Backward, a.stage + 1);
      case Kind::ReduceGradients: {
        const auto& owners = s_.placement.owners[static_cast<std::size_t>(a.stage)];
        if (!std::ranges::count(owners, rank)) return fail(a, "is on the wrong rank");
        if (!reduced_.insert({rank, a.stage}).second) return fail(a, "is there twice");
        return true;
      }
      case Kind::Update:
        return true;
    }
    return true;
  }

  bool compute(int rank, const Action& a, Kind direction, bool first, int from) {
    const Key key{direction, a.stage, a.microbatch};
    if (done_.contains(key)) return fail(a, "is done twice");
    if (!first) {
      const bool crosses = owner(from, a.microbatch) != rank;
      if (crosses && sends_) {
        if (!posted_.contains(key)) return fail(a, "has posted no receive");
        if (!delivered_.erase(key)) return false;
      } else if (!done_.contains({direction, from, a.microbatch})) {
        return crosses ? false : fail(a, "has no input");
      }
    }
    done_.insert(key);
    if (direction == Kind::Forward) return true;
    if (reduced_.contains({rank, a.stage})) return fail(a, "comes after the reduction");
    if (last_backward_.contains({rank, a.stage}) && last_backward_[{rank, a.stage}] > a.microbatch)
      return fail(a, "descends");
    last_backward_[{rank, a.stage}] = a.microbatch;
    if (a.kind == Kind::Backward) return add_gradient(rank, a);
    halves_.insert({a.stage, a.microbatch});
    return true;
  }

  bool add_gradient(int rank, const Action& a) {
    int& last = last_gradient_.try_emplace({rank, a.stage}, -1).first->second;
    if (last > a.microbatch) return fail(a, "adds its gradient out of order");
    if (reduced_.contains({rank, a.stage})) return fail(a, "comes after the reduction");
    last = a.microbatch;
    return true;
  }

  bool send(int rank, const Action& a, Kind direction, int to) {
    if (to < 0 || to >= s_.placement.stages()) return fail(a, "goes nowhere");
    const int peer = owner(to, a.microbatch);
    if (peer == rank) return fail(a, "goes to its own rank");
    if (!done_.contains({direction, a.stage, a.microbatch})) return fail(a, "has nothing to send");
    if (!sent_.insert({direction, to, a.microbatch}).second) return fail(a, "is sent twice");
    auto& queue = channels_[{rank, peer}];
    if (queue.empty()) {
      sent_.erase({direction, to, a.microbatch});
      return false;
    }
    const Key expected = queue.front();
    queue.pop_front();
    if (expected != Key{direction, to, a.microbatch}) return fail(a, "is taken for another");
    delivered_.insert(expected);
    return true;
  }

  bool receive(int rank, const Action& a, Kind direction, int from) {
    if (from < 0 || from >= s_.placement.stages()) return fail(a, "comes from nowhere");
    const int peer = owner(from, a.microbatch);
    if (peer == rank) return fail(a, "comes from its own rank");
    const Key key{direction, a.stage, a.microbatch};
    if (!posted_.insert(key).second) return fail(a, "is received twice");
    if (done_.contains(key)) return fail(a, "is received after use");
    channels_[{peer, rank}].push_back(key);
    return true;
  }

  std::string finish() {
    bool backward = false;
    for (const auto& [direction, stage, m] : done_) backward |= direction == Kind::Backward;
    for (int stage = 0; stage < s_.placement.stages(); ++stage) {
      for (int m = 0; m < s_.microbatches; ++m) {
        if (!done_.contains({Kind::Forward, stage, m})) return "a forward is missing";
        if (backward && !done_.contains({Kind::Backward, stage, m})) return "a backward is missing";
      }
      for (const int rank : s_.placement.owners[static_cast<std::size_t>(stage)]) {
        if (backward && sends_ && s_.placement.replicas(stage) > 1 &&
            last_backward_.contains({rank, stage}) && !reduced_.contains({rank, stage}))
          return "a reduction is missing";
      }
    }
    for (const auto& [ranks, queue] : channels_) {
      if (!queue.empty()) return "a receive waits for ever";
    }
    if (!halves_.empty()) return "a weight half is missing";
    return delivered_.empty() ? "" : "a message is never used";
  }

  const Schedule& s_;
  bool sends_;
  std::string wrong_;
  std::set<Key> done_, posted_, delivered_, sent_;
  std::set<std::pair<int, int>> halves_, reduced_;
  std::map<std::pair<int, int>, int> last_backward_, last_gradient_;
  std::map<std::pair<int, int>, std::deque<Key>> channels_;
};

}  // namespace headrace
