// Do both ends of every channel agree on the order, and does nobody wait for ever?
#include <cstddef>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/check/checks.h"
#include "headrace/schedule/depend.h"
#include "headrace/schedule/schedule.h"
#include "headrace/schedule/walk.h"

namespace headrace {
namespace {

// A counter for each peer of one rank, cleared by going on to the next rank.
class PeerCounters {
 public:
  explicit PeerCounters(std::size_t ranks) : counts_(ranks), of_(ranks, -1) {}
  int& at(int rank, int peer) {
    const auto i = static_cast<std::size_t>(peer);
    if (of_[i] != rank) {
      of_[i] = rank;
      counts_[i] = 0;
    }
    return counts_[i];
  }

 private:
  std::vector<int> counts_;
  std::vector<int> of_;
};

// The schedule run with no buffer at all: a send ends when the peer has come to its receive, a
// receive is posted and waited for by its consumer. What is missing counts as done, as it is
// reported already.
class Rendezvous {
 public:
  explicit Rendezvous(const Checks& checks) : checks_(checks), done_(checks.position.size()) {
    for (std::size_t slot = 0; slot < done_.size(); ++slot) done_[slot] = checks.position[slot] < 0;
  }
  bool done(Slot slot) const { return done_[static_cast<std::size_t>(slot)] != 0; }
  Slot blocked_by(int rank, std::size_t at) const {
    const Action& action = checks_.action(rank, static_cast<int>(at));
    if (!is_send(action.kind)) return -1;
    const Slot receive = checks_.depend.slot(Dependencies::other_end(action));
    return done(receive) ? -1 : receive;
  }
  void run(int rank, std::size_t at, std::size_t count) {
    for (std::size_t i = at; i < at + count; ++i) {
      const Slot slot = checks_.depend.slot(checks_.action(rank, static_cast<int>(i)));
      if (slot >= 0) done_[static_cast<std::size_t>(slot)] = 1;
    }
  }
  void prefetch(int /*rank*/, Slot slot) const {
    if (slot >= 0) __builtin_prefetch(&done_[static_cast<std::size_t>(slot)], 1);
  }

 private:
  const Checks& checks_;
  std::vector<char> done_;
};

}  // namespace

void check_channels(Checks& checks) {
  const Dependencies& depend = checks.depend;
  if (!depend.transfers()) return;
  const std::size_t ranks = checks.schedule.ranks.size();
  // The how-manieth message of its channel each send and each receive is. Messages that lack an
  // end are reported as missing, and left out here so that they do not shift the others.
  std::vector<int> ordinal(checks.position.size());
  PeerCounters sent(ranks);
  PeerCounters received(ranks);
  const auto each_message = [&](bool sends, auto&& visit) {
    for (std::size_t list = 0; list < ranks; ++list) {
      const int rank = static_cast<int>(list);
      const std::vector<Action>& actions = checks.schedule.ranks[list];
      for (std::size_t i = 0; i < actions.size(); ++i) {
        const Action& a = actions[i];
        if (sends ? !is_send(a.kind) : !is_recv(a.kind)) continue;
        if (!checks.stands(rank, static_cast<int>(i))) continue;
        const Action other = Dependencies::other_end(a);
        const auto other_slot = static_cast<std::size_t>(depend.slot(other));
        if (checks.position[other_slot] < 0) continue;
        visit(rank, static_cast<int>(i), a, depend.rank(other.stage, other.microbatch), other_slot);
      }
    }
  };
  each_message(true, [&](int rank, int, const Action& a, int peer, std::size_t) {
    ordinal[static_cast<std::size_t>(depend.slot(a))] = ++sent.at(rank, peer);
  });
  PeerCounters faulty(ranks);
  each_message(false, [&](int rank, int at, const Action& a, int peer, std::size_t send) {
    const int number = ++received.at(rank, peer);
    // One for each channel: once it is out of step, all that follows is.
    if (number == ordinal[send] || faulty.at(rank, peer)++ > 0) return;
    checks.report(
        rank, at,
        cat("receives message ", number, " of the channel from rank ", peer, ", but rank ", peer,
            " sends ", to_string(Dependencies::other_end(a)), " as message ", ordinal[send],
            "; messages between two ranks arrive in the order they are sent"));
  });
}

void check_waits(Checks& checks) {
  // An action in a wrong place would never be done where it is waited for.
  if (!checks.well_placed) return;
  Rendezvous state(checks);
  const Halt halt = walk(checks.schedule, checks.depend, state);
  if (halt.complete) return;
  for (const std::vector<int>& ring : waiting_rings(checks.depend, halt)) {
    if (ring.size() == 1) continue;  // waits for itself: its order is reported already
    checks.report(ring[0], static_cast<int>(halt.at[static_cast<std::size_t>(ring[0])]),
                  cat(checks.depend.transfers() ? "deadlock, with sends that last until received: "
                                                : "deadlock: ",
                      waiting_text(checks.schedule, checks.depend, halt, ring)));
  }
}

}  // namespace headrace
