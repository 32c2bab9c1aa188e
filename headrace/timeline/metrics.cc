#include "headrace/timeline/metrics.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "headrace/schedule/action.h"
#include "headrace/timeline/account.h"
#include "headrace/timeline/timeline.h"

namespace headrace {
namespace {

void add(const Event& event, RankMetrics& rank) {
  const Spent spent = spent_on(event);
  rank.wait += spent.wait;
  rank.transfer += spent.transfer;
  switch (spent.activity) {
    case Activity::Forward:
      rank.forward += spent.work;
      break;
    case Activity::Backward:
      rank.backward += spent.work;
      break;
    case Activity::BackwardInput:
      rank.backward_input += spent.work;
      break;
    case Activity::BackwardWeight:
      rank.backward_weight += spent.work;
      break;
    case Activity::Reduce:
      rank.reduce += spent.work;
      break;
    case Activity::Update:
      rank.update += spent.work;
      break;
    case Activity::Transfer:
      rank.transfer += spent.work;
  }
}

}  // namespace

Metrics measure(const Timeline& timeline) {
  Metrics metrics;
  metrics.start = std::numeric_limits<double>::infinity();
  double end = -metrics.start;
  for (const std::vector<Event>& events : timeline.ranks) {
    RankMetrics& rank = metrics.ranks.emplace_back();
    double first = std::numeric_limits<double>::infinity();
    double last = -first;
    for (const Event& event : events) {
      add(event, rank);
      rank.idle -= event.end - event.start;  // what is left of the makespan is added below
      if (is_compute(event.action.kind)) first = std::min(first, work_begin(event));
      metrics.start = std::min(metrics.start, event.start);
      last = std::max(last, event.end);
    }
    end = std::max(end, last);
    metrics.cost = std::max(metrics.cost, last - first);  // minus infinity where nothing computes
    const double compute =
        rank.forward + rank.backward + rank.backward_input + rank.backward_weight;
    metrics.ideal = std::max(metrics.ideal, compute);
  }
  if (end < metrics.start) {  // no event at all
    metrics.start = 0;
    return metrics;
  }
  metrics.makespan = end - metrics.start;
  for (RankMetrics& rank : metrics.ranks) {
    rank.idle += metrics.makespan;
    const double compute =
        rank.forward + rank.backward + rank.backward_input + rank.backward_weight;
    if (metrics.makespan > 0) rank.bubble = 1 - compute / metrics.makespan;
  }
  if (metrics.makespan > 0) metrics.bubble = 1 - metrics.ideal / metrics.makespan;
  if (metrics.cost > 0) metrics.bubble_cost = 1 - metrics.ideal / metrics.cost;
  return metrics;
}

}  // namespace headrace
