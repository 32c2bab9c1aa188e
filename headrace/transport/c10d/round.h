// Which start of a run this is, where a launcher serves a store that outlives it (torchrun's agent): the ranks of
// one start must meet each other there, and none that came before.
//
// torchrun's own count does not say: where a rank of one host has failed, the hosts may count the start that
// follows differently. So rank 0 begins a round, by counting "rounds" up; the others join the newest, each
// once ("here/<round>/<rank>"), and move on when a newer one is begun; when all have, rank 0 closes it
// ("closed/<round>"). A launcher ends all ranks of a start before those of the next are there, so that a
// round that is not closed has only ranks that are gone or of this start.
#pragma once

#include <cstdint>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "headrace/transport/rendezvous/rendezvous.h"

namespace headrace {

// From 1. Throws Error, naming a rank that is not there, after `limit` seconds.
std::int64_t join_round(c10d::Store& store, const Rendezvous& place, double limit);

}  // namespace headrace
