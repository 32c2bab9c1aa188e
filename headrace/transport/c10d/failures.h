// What the ranks tell one another through the run's store: the first failure, and, when a wait has
// run out, who waits for whom.
//
// Keys: "failure" (set once, by compareSet), "alarm" (a counter that says there is something to
// read), "query" (a counter of questions who waits for whom), "wait/<query>/<rank>" (the answers),
// "left/<rank>" (a rank has ended as it should).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "headrace/transport/c10d/state.h"
#include "headrace/transport/c10d/store_thread.h"

namespace headrace {

class Failures {
 public:
  // Keeps watch from now on: sets the state's failure and store_lost, and answers queries.
  Failures(std::shared_ptr<RunState> state, std::unique_ptr<StoreThread> store_thread);

  // Makes this the run's first failure unless there is one; returns the first, with reported_here
  // true on the rank that was first. Nothing when the store does not answer.
  std::optional<Failure> publish(const Failure& failure);
  // Looks for the first failure of the run now, instead of at the next watch; stores it in the
  // state. False when the store does not answer.
  bool look();
  // What each rank waits for; `answered` says which have told, within a second or so. Nothing when
  // the store does not answer.
  struct Waits {
    std::vector<std::optional<Waiting>> waits;
    std::vector<bool> answered;
  };
  std::optional<Waits> ask_all(const Waiting& own);

  void leave();
  bool has_left(int rank);

 private:
  const std::shared_ptr<RunState> state_;
  const std::unique_ptr<StoreThread> store_;
};

}  // namespace headrace
