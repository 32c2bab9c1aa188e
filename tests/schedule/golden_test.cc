// Every schedule beside its public generator: the same order on every rank, the same makespan,
// longest rank, and peak activations. tests/data/schedules.json holds the figures and says where
// they are from.
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "headrace/base/text.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/lower.h"
#include "headrace/simulate/simulate.h"

namespace headrace {
namespace {

using nlohmann::json;

const json& golden() {
  static const json kGolden =
      json::parse(std::ifstream(HEADRACE_SOURCE_DIR "/tests/data/schedules.json"));
  return kGolden;
}

std::vector<double> numbers(const json& value) {
  return value.is_array() ? value.get<std::vector<double>>() : std::vector{value.get<double>()};
}

Costs costs_of(const json& record) {
  const json& given = record.at("costs");
  Costs costs;
  costs.forward = numbers(given.at("F"));
  costs.backward_input = numbers(given.contains("I") ? given.at("I") : given.at("B"));
  costs.backward_weight = numbers(given.at("W"));
  costs.latency = given.at("comm");
  costs.overlapped = given.value("overlapped_FB", -1.0);
  const json& memory = record.at("memory");
  if (memory.contains("mem_f")) {
    costs.memory_forward = numbers(memory.at("mem_f"));
    costs.memory_backward_input = numbers(memory.at("mem_b"));
    costs.memory_backward_weight = numbers(memory.at("mem_w"));
  }
  return costs;
}

GeneratorOptions options_of(const json& record) {
  GeneratorOptions options;
  options.ranks = record.at("p");
  options.microbatches = record.at("m");
  options.stages_per_rank = record.at("v");
  if (!record.at("costs").is_object()) return options;
  options.costs = costs_of(record);
  options.group_size = record.at("costs").value("group_size", 0);
  options.sequence_splits = record.at("costs").value("seq_splits", 0);
  if (record.at("memory").contains("max_mem"))
    options.memory_limit = numbers(record.at("memory").at("max_mem"));
  return options;
}

// A golden row in our words: "(0F7;7B3)OVERLAP_F_B" as to_csv writes it, "0F1d1" (microbatch 1 of
// the second direction) and "0F1.1" (split 1 of microbatch 1) as the microbatch or unit that it is.
std::string our_row(std::string row, int splits) {
  std::string out;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const bool direction = row[i] == 'd' && i + 1 < row.size();
    if (!direction && row[i] != '.') {
      out += row[i];
      continue;
    }
    std::size_t digits = out.size();
    while (digits > 0 && std::isdigit(static_cast<unsigned char>(out[digits - 1])) != 0) --digits;
    const int of = std::stoi(out.substr(digits)) * (direction ? 2 : splits);
    out = out.substr(0, digits) + std::to_string(of + row[++i] - '0');
  }
  return out;
}

std::string our_order(const json& record, int splits) {
  std::string csv;
  for (const json& row : record.at("order")) csv += our_row(row, splits) + "\n";
  return csv;
}

void expect_valid(const Schedule& schedule) {
  EXPECT_THAT(validate(schedule).violations, testing::IsEmpty());
  EXPECT_THAT(validate(lower(schedule)).violations, testing::IsEmpty());
}

void expect_figures(const Schedule& schedule, const Costs& costs, const json& results) {
  const Totals totals = simulate_totals(schedule, costs);
  EXPECT_NEAR(totals.makespan, results.at("makespan"), 1e-6);
  EXPECT_NEAR(totals.cost, results.at("longest_stage_time"), 1e-6);
}

void expect_peaks(const Schedule& schedule, const Costs& costs, const json& record) {
  if (!record.at("memory").contains("peak_per_rank")) return;
  EXPECT_EQ(simulate_totals(schedule, costs).peak_memory,
            record.at("memory").at("peak_per_rank").get<std::vector<double>>());
}

// All cases whose id starts so; says how many.
int compare(const std::string& prefix, const std::string& name) {
  int count = 0;
  for (const json& record : golden().at("cases")) {
    const std::string id = record.at("id");
    if (!id.starts_with(prefix)) continue;
    SCOPED_TRACE(id);
    ++count;
    GeneratorOptions options = options_of(record);
    if (name == "dualpipe") options.stages_per_rank = 0;  // both copies counted there
    const Schedule schedule = generate(name, options);
    if (record.contains("order")) {
      EXPECT_EQ(to_csv(schedule), our_order(record, std::max(1, options.sequence_splits)));
    }
    expect_figures(schedule, options.costs, record.at("results"));
    expect_peaks(schedule, options.costs, record);
    expect_valid(schedule);
  }
  return count;
}

// The same for PyTorch's, whose figures stand under their costs.
int compare_torch(const std::string& prefix, const std::string& name, bool same_order) {
  int count = 0;
  for (const json& record : golden().at("cases")) {
    const std::string id = record.at("id");
    if (!id.starts_with(prefix)) continue;
    SCOPED_TRACE(id);
    ++count;
    const Schedule schedule = generate(name, options_of(record));
    if (same_order) {
      EXPECT_EQ(to_csv(schedule), our_order(record, 1));
    }
    for (const auto& [key, results] : record.at("results_by_costs").items()) {
      const std::vector<std::string> parts = split_text(key, '_');
      Costs costs;
      costs.forward = {std::stod(parts[0].substr(1))};
      costs.backward_input = numbers(results.at("I"));
      costs.backward_weight = {std::stod(parts[2].substr(1))};
      expect_figures(schedule, costs, results);
    }
    expect_valid(schedule);
  }
  return count;
}

TEST(Golden, GPipe) {
  EXPECT_EQ(compare("gpipe_p", "gpipe"), 12);
  EXPECT_EQ(compare_torch("torch_ScheduleGPipe", "gpipe", true), 4);
}
TEST(Golden, GPipeInReverseOrderTakesAsLong) {
  for (const json& record : golden().at("cases")) {
    if (!std::string(record.at("id")).starts_with("gpipe_revB")) continue;
    const GeneratorOptions options = options_of(record);
    expect_figures(generate("gpipe", options), options.costs, record.at("results"));
  }
}
TEST(Golden, OneFOneB) {
  EXPECT_EQ(compare("1f1b_", "1f1b"), 16);
}
TEST(Golden, Interleaved) {
  EXPECT_EQ(compare("interleaved1f1b", "interleaved"), 12);
  EXPECT_EQ(compare_torch("torch_ScheduleInterleaved1F1B", "interleaved", true), 7);
}
// PyTorch runs the backwards in descending order, the author's code and ours in ascending order.
TEST(Golden, BreadthFirst) {
  EXPECT_EQ(compare_torch("torch_ScheduleLoopedBFS", "bfs", false), 5);
}
TEST(Golden, ZbH1) {
  EXPECT_EQ(compare("zb-h1", "zb-h1"), 14);
}
TEST(Golden, ZbH2) {
  EXPECT_EQ(compare("zb-h2", "zb-h2"), 14);
}
TEST(Golden, ZbAuto) {
  EXPECT_EQ(compare("zbauto", "zb-auto"), 74);
}
TEST(Golden, ZbV) {
  EXPECT_EQ(compare("zbv_", "zb-v"), 24);
}
TEST(Golden, VHalf) {
  EXPECT_EQ(compare("vhalf", "v-half"), 19);
}
TEST(Golden, VMin) {
  EXPECT_EQ(compare("vmin", "v-min"), 18);
}
TEST(Golden, VAdaptive) {
  EXPECT_EQ(compare("vadaptive", "v-adaptive"), 11);
}
TEST(Golden, OneFOneBV) {
  EXPECT_EQ(compare("1f1bv", "1f1b-v"), 8);
}
TEST(Golden, Gis) {
  EXPECT_EQ(compare("gis", "gis"), 3);
}
TEST(Golden, Seq1F1B) {
  EXPECT_EQ(compare("seq1f1b", "seq1f1b"), 5);
}
TEST(Golden, DualPipe) {
  EXPECT_EQ(compare("dualpipe_", "dualpipe"), 10);
}
TEST(Golden, DualPipeV) {
  EXPECT_EQ(compare("dualpipev", "dualpipe-v"), 13);
  EXPECT_EQ(compare_torch("torch_ScheduleDualPipeV", "dualpipe-v", true), 1);
  std::string csv;
  for (const json& row : golden().at("pytorch_dualpipev_4rank_10mb"))
    csv += row.get<std::string>() + "\n";
  EXPECT_EQ(to_csv(generate("dualpipe-v", {.ranks = 4, .microbatches = 10})), csv);
}

// Another simulator's run of six schedules, P = 8, M = 32: each rank's end and peak memory.
TEST(Golden, Primus) {
  const json& published = golden().at("primus_simulator").at("published");
  const std::map<std::string, std::string> names = {{"basic_1f1b", "1f1b"},
                                                    {"zerobubble (ZB-H1)", "zb-h1"},
                                                    {"interleaved_1f1b v=2", "interleaved"},
                                                    {"zbv-formatted", "zb-v"}};
  for (const auto& [theirs, ours] : names) {
    SCOPED_TRACE(ours);
    GeneratorOptions options{.ranks = 8, .microbatches = 32};
    const double share = ours == "interleaved" || ours == "zb-v" ? 0.5 : 1;  // of a stage
    options.costs.forward = options.costs.backward_input =
        options.costs.backward_weight = {1000 * share};
    options.costs.memory_forward = {share};
    options.costs.memory_backward_weight = {-share};
    const Simulation simulation = simulate(generate(ours, options), options.costs);
    const json& figures = published.at(theirs);
    EXPECT_EQ(simulation.peak_memory, figures.at("max_memory").get<std::vector<double>>());
    for (std::size_t rank = 0; rank < 8; ++rank)
      EXPECT_EQ(simulation.timeline.ranks[rank].back().end,
                figures.at("execution_time")[rank].get<double>());
  }
}

// Sixteen iterations measured on eight A100s, stages unequal, transfers negligible.
TEST(Golden, MeasuredA100) {
  int count = 0;
  for (const json& row : golden().at("measured_a100")) {
    SCOPED_TRACE(row.at("name").get<std::string>());
    ++count;
    Costs costs;
    costs.forward = numbers(row.at("F_us"));
    costs.backward_input = numbers(row.at("B_us"));
    costs.backward_weight = {0};
    const double simulated =
        simulate_totals(one_f_one_b(row.at("p"), row.at("m")), costs).makespan / 1000;
    EXPECT_NEAR(simulated, row.at("simulated_1f1b_ms_comm0"), 0.06);
    const double ratio = simulated / row.at("measured_iteration_ms").get<double>();
    EXPECT_GE(ratio, 0.9845);
    EXPECT_LE(ratio, 1.0005);
  }
  EXPECT_EQ(count, 16);
}

}  // namespace
}  // namespace headrace
