// The bubble rates that the Zero Bubble papers print, to their four decimals, and their closed
// forms.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "headrace/schedule/generators/generators.h"
#include "headrace/simulate/simulate.h"

namespace headrace {
namespace {

using nlohmann::json;

const json& tables() {
  static const json kTables =
      json::parse(std::ifstream(HEADRACE_SOURCE_DIR "/tests/data/schedules.json"))
          .at("zero_bubble_tables");
  return kTables;
}

double rate(double time, double ideal) {
  return (time - ideal) / time;
}

// One row of a table at the costs of a whole stage.
struct Row {
  int ranks;
  int microbatches;
  Costs costs;

  double work() const {
    return costs.forward[0] + costs.backward_input[0] + costs.backward_weight[0];
  }
  double ideal() const { return microbatches * work(); }
  GeneratorOptions options() const {
    return {.ranks = ranks, .microbatches = microbatches, .costs = costs};
  }
  double bubble(const std::string& name, const GeneratorOptions& options) const {
    return rate(simulate_totals(generate(name, options), costs).cost, ideal());
  }
  double bubble(const std::string& name) const { return bubble(name, options()); }

  // The papers state no rule for interleaved 1F1B with transfers; their figures follow this one.
  double interleaved(int stages_per_rank) const {
    const double bubble = (ranks - 1) * work() / stages_per_rank +
                          (2 * ranks * stages_per_rank - 2 - ranks) * costs.latency;
    return bubble / (ideal() + bubble);
  }
};

Row row_of(const json& record, const std::string& prefix, double stage) {
  Row row{record.at("p"), record.at("m"), {}};
  row.costs.forward = {record.at(prefix + "T_F").get<double>() * stage};
  row.costs.backward_input = {record.at(prefix + "T_B").get<double>() * stage};
  row.costs.backward_weight = {record.at(prefix + "T_W").get<double>() * stage};
  row.costs.latency = record.at("T_comm");
  return row;
}

// What a microbatch holds between its forward and its weight gradient, as the first paper counts
// it.
void set_memory(Costs& costs, const json& record) {
  const double hidden = record.at("hidden");
  const double forward =
      34 * hidden + 5 * record.at("heads").get<double>() * record.at("seq").get<double>();
  costs.memory_forward = {forward};
  costs.memory_backward_weight = {-32 * hidden};
  costs.memory_backward_input = {-costs.memory_forward[0] - costs.memory_backward_weight[0]};
}

TEST(ZeroBubble, Table5) {
  int count = 0;
  for (const json& record : tables().at("table5")) {
    SCOPED_TRACE(record.at("model").get<std::string>() + " m " + record.at("m").dump());
    Row row = row_of(record, "", 1);
    set_memory(row.costs, record);
    auto expect = [&](const std::string& column, double bubble) {
      EXPECT_EQ(std::lround(bubble * 1e4),
                std::lround(record.at("results").at(column).at("paper").get<double>() * 1e4))
          << column << " " << bubble;
      ++count;
    };
    for (const auto& [column, name] :
         {std::pair{"1F1B", "1f1b"}, {"ZB-H1", "zb-h1"}, {"ZB-H2", "zb-h2"}})
      expect(column, row.bubble(name));
    expect("1F1B-I", row.interleaved(record.at("results").at("1F1B-I").at("v")));
    for (const auto& [column, times] : {std::pair{"ZB-1p", 1}, {"ZB-2p", 2}}) {
      GeneratorOptions options = row.options();
      options.memory_limit = {times * row.ranks * row.costs.memory_forward[0]};
      expect(column, row.bubble("zb-auto", options));
      auto peaks = simulate_totals(generate("zb-auto", options), row.costs).peak_memory;
      const auto published =
          record.at("results").at(column).at("peak_mem_per_rank").get<std::vector<double>>();
      if (published.size() == 1) peaks = {std::ranges::max(peaks)};  // only the largest is kept
      EXPECT_EQ(peaks, published);
    }
  }
  EXPECT_EQ(count, 72);
}

TEST(ZeroBubble, Table8) {
  int count = 0;
  for (const json& record : tables().at("table8")) {
    SCOPED_TRACE(record.at("model").get<std::string>() + " m " + record.at("m").dump());
    const Row row = row_of(record, "chunk_", 2);
    auto expect = [&](const std::string& column, double bubble) {
      EXPECT_EQ(std::lround(bubble * 1e4),
                std::lround(record.at("results").at(column).at("paper").get<double>() * 1e4))
          << column << " " << bubble;
      ++count;
    };
    for (const auto& [column, name] :
         {std::pair{"1F1B", "1f1b"}, {"ZB-H1", "zb-h1"}, {"ZB-H2", "zb-h2"}})
      expect(column, row.bubble(name));
    expect("1F1B-I", row.interleaved(record.at("results").at("1F1B-I").at("v")));
    Row chunks = row_of(record, "chunk_", 1);
    set_memory(chunks.costs, record);
    const Totals totals = simulate_totals(generate("zb-v", chunks.options()), chunks.costs);
    expect("ZB-V", rate(totals.cost, 2 * chunks.ideal()));
    EXPECT_NEAR(rate(totals.makespan, 2 * chunks.ideal()),
                record.at("results").at("ZB-V").at("bubble_rate_makespan"), 1e-6);
  }
  EXPECT_EQ(count, 45);
}

class ClosedForm : public testing::TestWithParam<std::pair<int, int>> {
 protected:
  int ranks_ = GetParam().first;
  int microbatches_ = GetParam().second;
  Costs costs_{.forward = {5}, .backward_input = {6}, .backward_weight = {4}};
  double idle(const std::string& name, int stages_per_rank = 0) const {
    const int stages = std::max(1, stages_per_rank);
    return simulate_totals(generate(name, {.ranks = ranks_,
                                           .microbatches = microbatches_,
                                           .stages_per_rank = stages_per_rank}),
                           costs_)
               .cost -
           stages * microbatches_ * 15;
  }
};

TEST_P(ClosedForm, OfTheBubble) {
  const int others = ranks_ - 1;
  EXPECT_EQ(idle("gpipe"), others * 15);
  EXPECT_EQ(idle("1f1b"), others * 15);
  EXPECT_EQ(idle("eager-1f1b"), others * 15);
  EXPECT_EQ(idle("interleaved", 3), others * 15);
  EXPECT_EQ(idle("bfs", 3), others * 15);
  EXPECT_EQ(idle("zb-h1"), others * (5 + 6 - 4));
  costs_.backward_input = {5};
  costs_.backward_weight = {5};
  EXPECT_EQ(idle("zb-h2"), 0);
  EXPECT_EQ(idle("zb-v", 2), 0);
}

INSTANTIATE_TEST_SUITE_P(Sizes,
                         ClosedForm,
                         testing::Values(std::pair{1, 3},
                                         std::pair{2, 4},
                                         std::pair{3, 9},
                                         std::pair{4, 8},
                                         std::pair{5, 20},
                                         std::pair{8, 24}));

// 1F1B pays for latency all the way, not only at fill and drain.
TEST(ClosedFormWithLatency, OfOneFOneB) {
  for (const int ranks : {2, 4, 8})
    for (const int rounds : {1, 2, 3}) {
      const int m = rounds * ranks;
      Costs costs{.forward = {50}, .backward_input = {60}, .backward_weight = {40}};
      costs.latency = 2;
      EXPECT_EQ(simulate_totals(one_f_one_b(ranks, m), costs).makespan,
                (m + ranks - 1) * 150 + 2 * (2 * (ranks - 1) * rounds + 2 * (ranks - 2)));
    }
}

// The best over the blocks of the V, for equal costs: a closed form of the memory held.
TEST(ClosedFormOfMemory, OfVAdaptive) {
  const int ranks = 4;
  for (int held = 4; held <= 8; ++held) {
    const Schedule schedule =
        generate("v-adaptive",
                 {.ranks = ranks, .microbatches = 12, .memory_limit = {static_cast<double>(held)}});
    const int bubble =
        3 * ranks - 1 - 3 * held + std::max(3 * ranks, ranks - 1 + 2 * (1 + (held + 1) / 2));
    EXPECT_EQ(simulate_totals(schedule, {}).cost, 6 * 12 + bubble) << held;
  }
}

}  // namespace
}  // namespace headrace
