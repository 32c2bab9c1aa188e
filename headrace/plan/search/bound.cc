#include "headrace/plan/search/bound.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace headrace::orders {
namespace {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

// How many of something fit, guarding against the last digit.
double how_many(double room, double each) {
  return each > 0 ? std::floor(room / each + 1e-9) : kUnlimited;
}

// The parts of one rank, over all stages it holds: the longest and the smallest of each, which
// bounds what can be done in a given time and memory.
struct Parts {
  double count = 0;      // forwards in all
  double work = 0;       // of the rank in all
  double backwards = 0;  // I and W in all
  double chained = 0;    // F and I in all, what other ranks wait for
  double longest_forward = 0;
  double longest_backward = 0;  // I and W
  double longest_weight = 0;
  double least_memory = kUnlimited;  // of a forward
  double least_rest = kUnlimited;    // of what is left after the input gradient
};

class RankBound {
 public:
  RankBound(const Problem& problem, int rank)
      : problem_(problem), rank_(rank), limit_(problem.limit[at(rank)]) {
    for (const int stage : problem.placement.stages_of(rank))
      for (int m = 0; m < problem.microbatches; ++m) {
        if (problem.placement.rank(stage, m) != rank) continue;
        add(stage);
        // All microbatches of a lane take the same way.
        if (lanes_.empty() || lanes_.back().first != stage) lanes_.emplace_back(stage, m);
      }
  }

  bool empty() const { return lanes_.empty(); }

  // When the rank's first input is there at the earliest.
  double head() const {
    double head = kUnlimited;
    for (const auto& [stage, m] : lanes_) head = std::min(head, way(0, stage, m, 0));
    return head;
  }

  // The least time between the rank's first start and its end.
  double span() const {
    const double before = idle_before_gradients();
    const double after = idle_after_forwards();
    const bool apart = parts_.count > how_many(limit_, parts_.least_memory);
    return std::max(parts_.work + (apart ? before + after : std::max(before, after)), held());
  }

  // The same with all that a rank further on must do meanwhile. Its last input gradient is the last
  // microbatch's on its first stage, since microbatches go in order.
  double span_around(const RankBound& later) const {
    const auto& [stage, m] = lanes_.front();
    const int other = later.lanes_.front().first;
    if (other <= stage || problem_.placement.replicas(stage) > 1 ||
        problem_.placement.replicas(other) > 1)
      return 0;
    const double back = way(other, stage, m, 1) - time(other, 1) + time(stage, 1);
    return way(stage, other, m, 0) + later.idle_before_gradients() + later.parts_.chained + back +
           time(stage, 2);
  }

 private:
  double time(int stage, int part) const { return problem_.time[at(stage * 3 + part)]; }
  double memory(int stage, int part) const { return problem_.memory[at(stage * 3 + part)]; }

  void add(int stage) {
    const double backward = time(stage, 1) + time(stage, 2);
    ++parts_.count;
    parts_.work += time(stage, 0) + backward;
    parts_.backwards += backward;
    parts_.chained += time(stage, 0) + time(stage, 1);
    parts_.longest_forward = std::max(parts_.longest_forward, time(stage, 0));
    parts_.longest_backward = std::max(parts_.longest_backward, backward);
    parts_.longest_weight = std::max(parts_.longest_weight, time(stage, 2));
    parts_.least_memory = std::min(parts_.least_memory, memory(stage, 0));
    parts_.least_rest = std::min(parts_.least_rest, memory(stage, 0) + memory(stage, 1));
  }

  // From the start of one stage's part to the arrival at another's, `part` of every stage in
  // between, the first included; stages in either order.
  double way(int from, int to, int m, int part) const {
    double sum = 0;
    const int step = from < to ? 1 : -1;
    for (int stage = from; stage != to; stage += step) {
      sum += time(stage, part);
      if (problem_.placement.rank(stage, m) != problem_.placement.rank(stage + step, m))
        sum += problem_.transfer;
    }
    return sum;
  }

  // From the end of a stage's forward to the start of its input gradient.
  double round_trip(int stage, int m) const {
    const int last = problem_.stages - 1;
    if (stage == last) return 0;
    return way(stage, last, m, 0) - time(stage, 0) + time(last, 0) + way(last, stage, m, 1);
  }

  double idle_before_gradients() const {
    double first = kUnlimited;
    for (const auto& [stage, m] : lanes_)
      first = std::min(first, way(0, stage, m, 0) + time(stage, 0) + round_trip(stage, m));
    const double fitting = std::min(parts_.count, how_many(limit_, parts_.least_memory));
    return std::max(0.0, first - head() - fitting * parts_.longest_forward);
  }

  double idle_after_forwards() const {
    // From the last forward to the end of that microbatch's last input gradient on this rank.
    double window = kUnlimited;
    for (const auto& [stage, m] : lanes_) {
      int lowest = stage;
      for (const auto& [other, other_m] : lanes_)
        if (problem_.placement.rank(other, m) == rank_) lowest = std::min(lowest, other);
      window = std::min(window, round_trip(stage, m) + way(stage, lowest, m, 1) + time(lowest, 1));
    }
    return std::max(0.0, window - most_backward_work());
  }

  // The most I and W that what the memory holds can give; the W of the last one comes afterwards.
  double most_backward_work() const {
    const double all = parts_.backwards;
    const double others = parts_.count - 1;
    double most = 0;
    const double whole =
        std::min(others, how_many(limit_ - parts_.least_memory, parts_.least_memory));
    if (whole == others) return all - least_weight();
    for (double n = 0; n <= whole; ++n) {
      const double room = limit_ - (n + 1) * parts_.least_memory;
      const double rest = std::min(others - n, how_many(room, parts_.least_rest));
      most = std::max(most, n * parts_.longest_backward + rest * parts_.longest_weight);
    }
    return std::min(all, most + parts_.longest_backward - least_weight());
  }

  double least_weight() const {
    double least = kUnlimited;
    for (const auto& [stage, m] : lanes_) least = std::min(least, time(stage, 2));
    return least;
  }

  // Memory times time that the activations take, over the memory there is.
  double held() const {
    if (limit_ == kUnlimited || limit_ <= 0) return 0;
    double sum = 0;
    for (const auto& [stage, m] : lanes_) {
      int count = 0;
      for (int other = 0; other < problem_.microbatches; ++other)
        count += problem_.placement.rank(stage, other) == rank_ ? 1 : 0;
      const double there = time(stage, 0) + round_trip(stage, m) + time(stage, 1);
      sum += count *
             (memory(stage, 0) * there + (memory(stage, 0) + memory(stage, 1)) * time(stage, 2));
    }
    return sum / limit_;
  }

  const Problem& problem_;
  int rank_;
  double limit_;
  Parts parts_;
  std::vector<std::pair<int, int>> lanes_;  // a stage, and one microbatch that it does here
};

}  // namespace

Bound lower_bound(const Problem& problem) {
  std::vector<RankBound> ranks;
  for (int rank = 0; rank < problem.ranks; ++rank) {
    RankBound of_rank(problem, rank);
    if (!of_rank.empty()) ranks.push_back(std::move(of_rank));
  }
  Bound bound;
  for (const RankBound& rank : ranks) {
    double span = rank.span();
    for (const RankBound& later : ranks) span = std::max(span, rank.span_around(later));
    bound.cost = std::max(bound.cost, span);
    bound.makespan = std::max(bound.makespan, rank.head() + span);
  }
  return bound;
}

}  // namespace headrace::orders
