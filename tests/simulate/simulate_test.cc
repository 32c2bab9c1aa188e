#include "headrace/simulate/simulate.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/schedule/costs.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/lower.h"
#include "headrace/schedule/schedule.h"
#include "headrace/timeline/metrics.h"
#include "headrace/timeline/timeline.h"

namespace headrace {
namespace {

using testing::DoubleNear;
using testing::Pointwise;

std::vector<double> numbers(const std::string& text) {
  std::vector<double> values;
  for (const std::string& part : split_text(text, ','))
    values.push_back(parse_number(part, "a golden figure"));
  return values;
}

struct TimedOrder {
  std::string name;
  Costs costs;
  double makespan = 0;
  double cost = 0;
  std::vector<double> start;
  std::vector<double> end;
  Schedule schedule;
};

std::vector<TimedOrder> timed_orders() {
  std::ifstream file(HEADRACE_SOURCE_DIR "/tests/data/timed_orders.txt");
  std::vector<TimedOrder> cases;
  std::string line;
  const auto after_word = [&] { return std::istringstream(line.substr(line.find(' ') + 1)); };
  while (std::getline(file, line)) {
    if (!line.starts_with("case ")) continue;
    TimedOrder& timed = cases.emplace_back();
    timed.name = line.substr(5);
    std::string f, i, w;
    std::getline(file, line);
    after_word() >> f >> i >> w >> timed.costs.latency >> timed.costs.overlapped;
    timed.costs.forward = numbers(f);
    timed.costs.backward_input = numbers(i);
    timed.costs.backward_weight = numbers(w);
    std::getline(file, line);
    after_word() >> timed.makespan >> timed.cost;
    std::getline(file, line);
    timed.start = numbers(line.substr(6));
    std::getline(file, line);
    timed.end = numbers(line.substr(4));
    std::string csv;
    while (std::getline(file, line) && !line.empty()) csv += line + "\n";
    timed.schedule = parse_csv(csv, timed.name);
  }
  return cases;
}

TEST(Simulate, GivesPublishedOrdersTheirTimes) {
  const std::vector<TimedOrder> cases = timed_orders();
  ASSERT_GT(cases.size(), 30U);
  for (const TimedOrder& timed : cases) {
    const double near = 1e-9 * timed.makespan;
    for (const bool lowered : {false, true}) {
      Costs costs = timed.costs;
      const Schedule schedule = lowered ? lower(timed.schedule) : timed.schedule;
      const Simulation simulation = simulate(schedule, costs);
      const Metrics metrics = measure(simulation.timeline);
      SCOPED_TRACE(timed.name + (lowered ? " lowered" : ""));
      EXPECT_NEAR(metrics.makespan, timed.makespan, near);
      EXPECT_NEAR(metrics.cost, timed.cost, near);
      std::vector<double> start, end;
      for (const std::vector<Event>& events : simulation.timeline.ranks) {
        const auto first = std::ranges::find_if(
            events, [](const Event& event) { return is_compute(event.action.kind); });
        start.push_back(work_begin(*first));
        end.push_back(events.back().end);
      }
      EXPECT_THAT(start, Pointwise(DoubleNear(near), timed.start));
      EXPECT_THAT(end, Pointwise(DoubleNear(near), timed.end));
      const Totals totals = simulate_totals(schedule, costs);
      EXPECT_EQ(totals.makespan, metrics.makespan);
      EXPECT_NEAR(totals.cost, metrics.cost, near);
      EXPECT_EQ(totals.peak_memory, simulation.peak_memory);
    }
  }
}

TEST(Simulate, BubbleAndPeakHaveTheirClosedForms) {
  for (int p = 1; p <= 8; ++p) {
    for (const int m : {1, 2, 3, 8, 24}) {
      for (const Schedule& schedule : {gpipe(p, m), one_f_one_b(p, m)}) {
        const Costs costs = {.forward = {1}, .backward_input = {1}, .backward_weight = {1}};
        const Simulation simulation = simulate(schedule, costs);
        const Metrics metrics = measure(simulation.timeline);
        EXPECT_DOUBLE_EQ(metrics.makespan, 3 * (m + p - 1));
        EXPECT_NEAR(metrics.bubble, (p - 1.0) / (m + p - 1), 1e-12);
        for (int rank = 0; rank < p; ++rank) {
          const double peak = schedule.name == "gpipe" ? m : std::min(m, p - rank);
          EXPECT_EQ(simulation.peak_memory[static_cast<std::size_t>(rank)], peak);
          EXPECT_NEAR(metrics.ranks[static_cast<std::size_t>(rank)].bubble, metrics.bubble, 1e-12);
        }
      }
    }
  }
}

// The time of 1F1B with a latency small against the forward (closed form of the zero-bubble
// tables).
TEST(Simulate, LatencyIsExposedAsInTheClosedForm) {
  const double t = 3, c = 0.01;
  for (const int p : {2, 4, 8}) {
    const int m = 3 * p;
    const Costs costs = {.forward = {1}, .latency = c};
    EXPECT_NEAR(simulate_totals(one_f_one_b(p, m), costs).makespan,
                (m + p - 1) * t + c * (2.0 * (p - 1) * m / p + 2 * (p - 2)), 1e-9);
  }
}

TEST(Simulate, SplitsTimeIntoWaitTransferAndWork) {
  const Costs costs = {
      .forward = {2}, .backward_input = {3}, .backward_weight = {1}, .latency = 0.5};
  const Timeline timeline = simulate(one_f_one_b(2, 1), costs).timeline;
  const Event& forward = timeline.ranks[1][0];
  EXPECT_EQ(forward.start, 0);
  EXPECT_EQ(forward.wait, 2);
  EXPECT_EQ(forward.transfer, 0.5);
  EXPECT_EQ(work_begin(forward), 2.5);
  EXPECT_EQ(forward.end, 4.5);
  const Metrics metrics = measure(timeline);
  EXPECT_EQ(metrics.makespan, 13);  // 2 + ½ + 2 + 4 + ½ + 4
  EXPECT_EQ(metrics.ranks[0].forward, 2);
  EXPECT_EQ(metrics.ranks[0].backward, 4);
  EXPECT_EQ(metrics.ranks[0].wait, 6.5);
  EXPECT_EQ(metrics.ranks[0].transfer, 0.5);
  EXPECT_EQ(metrics.ranks[1].idle, 4.5);
}

TEST(Simulate, BytesTakeTimeAndTransfersMayBlock) {
  Costs costs = {.latency = 1, .bandwidth = 10, .message_bytes = 20};
  EXPECT_EQ(simulate_totals(one_f_one_b(2, 1), costs).makespan, 1 + 3 + 1 + 2 + 3 + 2);
  costs.transfers_block = true;
  const Metrics blocked = measure(simulate(gpipe(2, 4), costs).timeline);
  EXPECT_EQ(blocked.ranks[0].transfer, 8 * 3);
  EXPECT_EQ(blocked.ranks[1].transfer, 8 * 3);
  costs.transfers_block = false;
  EXPECT_LT(measure(simulate(gpipe(2, 4), costs).timeline).makespan, blocked.makespan);
}

TEST(Simulate, CountsOverheadRecomputeReductionAndUpdate) {
  const Schedule one = gpipe(1, 2);
  EXPECT_EQ(simulate_totals(one, {.overhead = 0.25}).makespan, 7);
  EXPECT_EQ(simulate_totals(one, {.recompute = 1}).makespan, 8);
  EXPECT_EQ(simulate_totals(one, {.update = 5}).makespan, 11);
  EXPECT_EQ(simulate_totals(one, {.reduce = 5}).makespan, 6);  // no replicas
  const Schedule two = parse_csv("0F0,0B0\n0F1,0B1\n", "replicas");
  EXPECT_EQ(simulate_totals(two, {.reduce = 5}).makespan, 8);
  EXPECT_EQ(simulate_totals(lower(two), {.update = 1, .reduce = 5}).makespan, 9);
}

TEST(Simulate, CostsVaryByStage) {
  const Costs costs = {.forward = {1, 5}, .backward_input = {1, 1}, .memory_forward = {1, 7}};
  const Simulation simulation = simulate(gpipe(2, 2), costs);
  EXPECT_EQ(measure(simulation.timeline).makespan, 1 + 10 + 4 + 2);
  EXPECT_EQ(simulation.peak_memory, (std::vector<double>{2, 14}));
  EXPECT_THROW(simulate(gpipe(3, 2), costs), UsageError);
  EXPECT_THROW(simulate(gpipe(2, 2), {.forward = {-1}}), UsageError);
}

TEST(Simulate, SaysWhoWaitsForWhom) {
  EXPECT_THAT([] { simulate(parse_csv("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n", "crossed"), {}); },
              testing::ThrowsMessage<Error>(testing::HasSubstr(
                  "rank 0 at position 1 (0B0) waits for 1B0 of rank 1; rank 1 at position 0 (1F1) "
                  "waits for 0F1 of rank 0")));
  EXPECT_THAT([] { simulate(parse_csv("0F0\n1F0,1F1\n", "missing"), {}); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("waits for 0F1 of rank 0")));
}

}  // namespace
}  // namespace headrace
