// Turns a wait that has failed into the error that names the rank at fault.
#pragma once

#include "headrace/transport/c10d/failures.h"
#include "headrace/transport/c10d/state.h"

namespace headrace {

// Throws if this rank's waits are over: it was aborted, one of its threads or the run has failed, or the store is gone.
// Wants the state's mutex held.
void check_running(const RunState& state);

// The connection to the peer waited for has closed: because it failed (its reason may take a moment
// to be known), because it has ended, or because it was killed.
// `detail` says how it closed; nothing: the peer has said that it has ended.
[[noreturn]] void throw_closed(RunState& state,
                               Failures& failures,
                               const Waiting& waiting,
                               const std::optional<std::string>& detail);

// The limit has run out.
[[noreturn]] void throw_expired(RunState& state,
                                Failures& failures,
                                const Waiting& waiting,
                                double limit);

}  // namespace headrace
