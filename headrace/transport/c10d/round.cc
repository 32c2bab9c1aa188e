#include "headrace/transport/c10d/round.h"

#include <chrono>
#include <string>
#include <thread>

#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPause = std::chrono::milliseconds(10);

std::string here(std::int64_t round, int rank) {
  return cat("here/", round, "/", rank);
}

std::string closed(std::int64_t round) {
  return cat("closed/", round);
}

// Looks again and again, until `found` or the limit is over.
template <class Found>
void until(double limit, const std::string& missing, const Found& found) {
  const auto end = Clock::now() + std::chrono::duration<double>(limit);
  while (!found()) {
    check(Clock::now() < end, missing, " within ", fixed_text(limit, 1), " s; is it running?");
    std::this_thread::sleep_for(kPause);
  }
}

std::int64_t begin_round(c10d::Store& store, const Rendezvous& place, double limit) {
  const std::int64_t round = store.add("rounds", 1);
  for (int rank = 1; rank < place.size; ++rank)
    until(limit, cat("rank ", rank, " of ", place.size, " has not joined rank 0"),
          [&] { return store.check({here(round, rank)}); });
  store.set(closed(round), std::string("1"));
  return round;
}

}  // namespace

std::int64_t join_round(c10d::Store& store, const Rendezvous& place, double limit) {
  if (place.rank == 0) return begin_round(store, place, limit);
  std::int64_t seen = 0;
  bool joined = false;
  until(limit, cat("rank ", place.rank, " of ", place.size, " has not been met by rank 0"), [&] {
    const std::int64_t newest = store.add("rounds", 0);
    if (newest != seen) {
      seen = newest;
      // Another one has where the round is of an earlier start.
      joined = store.add(here(seen, place.rank), 1) == 1;
    }
    return joined && store.check({closed(seen)});
  });
  return seen;
}

}  // namespace headrace
