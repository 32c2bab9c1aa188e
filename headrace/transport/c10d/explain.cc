#include "headrace/transport/c10d/explain.h"

#include <chrono>
#include <exception>
#include <thread>

#include "headrace/base/text.h"
#include "headrace/tensor/exception_text.h"

namespace headrace {

namespace {

// How long a rank that sees a peer's connection close waits for the peer's reason.
constexpr auto kReasonLimit = std::chrono::seconds(1);
constexpr auto kPause = std::chrono::milliseconds(50);

std::string name(const RunState& state, int rank) {
  return cat("rank ", rank, " (host ", state.hosts[static_cast<std::size_t>(rank)], ")");
}

std::string who_waited(const RunState& state, const Waiting& waiting) {
  return cat("rank ", state.rank, " waited ", to_string(waiting));
}

bool is_closing(const std::string& detail) {
  for (const char* sign : {"onnection closed", "onnection reset", "roken pipe"})
    if (detail.find(sign) != std::string::npos) return true;
  return false;
}

[[noreturn]] void throw_gone(const RunState& state,
                             const Waiting& waiting,
                             const std::string& detail) {
  throw PeerError(waiting.peer, cat(name(state, waiting.peer), " is gone: its connection ",
                                    is_closing(detail) ? "closed" : "failed (" + detail + ")",
                                    " while ", who_waited(state, waiting)));
}

[[noreturn]] void throw_store_silent(const RunState& state, const Waiting& waiting) {
  if (state.store_is_served)
    throw PeerError(waiting.peer,
                    cat("the run's store, which the launcher serves, does not answer, and ",
                        who_waited(state, waiting), " of rank ", waiting.peer));
  throw PeerError(0, cat(name(state, 0), " does not answer: it serves the run's store, and ",
                         who_waited(state, waiting)));
}

}  // namespace

void check_running(const RunState& state) {
  check(!state.aborted, state.aborted.value_or(""));
  try {
    if (state.own_failure) std::rethrow_exception(state.own_failure);
  } catch (const std::exception& error) {
    rethrow(error, "");
  }
  if (state.failure) throw PeerError(state.failure->rank, state.failure->what);
  if (!state.store_lost) return;
  if (state.store_is_served)
    throw PeerError(state.rank, "the run's store, which the launcher serves, is gone");
  throw PeerError(0, cat(name(state, 0), " is gone: the run's store, which it serves, has closed"));
}

void throw_closed(RunState& state,
                  Failures& failures,
                  const Waiting& waiting,
                  const std::optional<std::string>& detail) {
  const auto end = std::chrono::steady_clock::now() + kReasonLimit;
  while (std::chrono::steady_clock::now() < end) {
    // In this order: who has left for a failure has told it before.
    const bool left = !detail || failures.has_left(waiting.peer);
    const bool answers = failures.look();
    {
      const std::lock_guard lock(state.mutex);
      // The store's end says less than the connection's.
      if (state.store_lost && waiting.peer == 0 && !state.store_is_served) break;
      check_running(state);
    }
    if (!answers) throw_store_silent(state, waiting);
    if (left)
      throw PeerError(waiting.peer, cat("rank ", waiting.peer, " has ended, and rank ", state.rank,
                                        " still waited ", to_string(waiting)));
    std::this_thread::sleep_for(kPause);
  }
  throw_gone(state, waiting, detail.value_or(""));
}

void throw_expired(RunState& state, Failures& failures, const Waiting& waiting, double limit) {
  const auto all = failures.ask_all(waiting);
  if (all) failures.look();
  {
    const std::lock_guard lock(state.mutex);
    check_running(state);
  }
  if (!all) throw_store_silent(state, waiting);
  AtFault at_fault = find_at_fault(state.rank, limit, all->waits, state.hosts);
  if (!all->answered[static_cast<std::size_t>(at_fault.rank)])
    at_fault.what += "; it does not answer: it is stopped, or its host is";
  throw PeerError(at_fault.rank, at_fault.what);
}

}  // namespace headrace
