// `auto`: never slower than a fixed schedule, never over the memory, and as fast as can be where
// that is known: by trying every order of a small problem, or by the bound.
#include "headrace/plan/search/search.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/plan/search/bound.h"
#include "headrace/plan/search/problem.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/lower.h"
#include "headrace/simulate/simulate.h"

namespace headrace {
namespace {

using nlohmann::json;

constexpr double kSame = 1 + 1e-9;
constexpr SearchOptions kQuick{.several_copies = false, .steps = 5'000'000};

GeneratorOptions problem(
    int ranks, int microbatches, double f, double i, double w, double latency) {
  GeneratorOptions options{.ranks = ranks, .microbatches = microbatches};
  options.costs.forward = {f};
  options.costs.backward_input = {i};
  options.costs.backward_weight = {w};
  options.costs.latency = latency;
  return options;
}

void expect_sound(const Found& found, const GeneratorOptions& options) {
  EXPECT_THAT(validate(lower(found.schedule)).violations, testing::IsEmpty());
  const Totals totals = simulate_totals(found.schedule, options.costs);
  EXPECT_EQ(totals.makespan, found.makespan);
  EXPECT_EQ(totals.cost, found.cost);
  for (std::size_t rank = 0; rank < totals.peak_memory.size() && !options.memory_limit.empty();
       ++rank)
    EXPECT_LE(totals.peak_memory[rank],
              options.memory_limit[options.memory_limit.size() > 1 ? rank : 0] * kSame);
  EXPECT_GE(found.makespan * kSame, found.least_makespan);
  EXPECT_GE(found.cost * kSame, found.least_cost);
}

// Every order of one rank of one stage: forwards, input and weight gradients each ascending.
void all_lists(int microbatches,
               std::array<int, 3> done,
               std::vector<int>& parts,
               std::vector<std::vector<int>>& all) {
  if (done[2] == microbatches) all.push_back(parts);
  for (std::size_t part = 0; part < 3; ++part) {
    if (done[part] == (part == 0 ? microbatches : done[part - 1])) continue;
    auto more = done;
    ++more[part];
    parts.push_back(static_cast<int>(part));
    all_lists(microbatches, more, parts, all);
    parts.pop_back();
  }
}

// The least makespan and the least cost over every order of every rank within the memory.
orders::Score best_of_all(const GeneratorOptions& options) {
  const orders::Problem problem(options, linear_placement(options.ranks));
  std::vector<std::vector<int>> lists;
  std::vector<int> parts;
  all_lists(options.microbatches, {}, parts, lists);
  std::vector<std::vector<std::vector<orders::Step>>> of_rank(orders::at(options.ranks));
  for (int rank = 0; rank < options.ranks; ++rank)
    for (const auto& list : lists) {
      std::vector<orders::Step> steps;
      std::array<int, 3> count{};
      for (const int part : list)
        steps.push_back({static_cast<std::uint8_t>(part), rank, count[orders::at(part)]++});
      if (orders::fits(problem, rank, steps)) of_rank[orders::at(rank)].push_back(steps);
    }
  orders::Clock clock(problem);
  orders::Score best{std::numeric_limits<double>::infinity(),
                     std::numeric_limits<double>::infinity(), 0};
  std::vector<std::size_t> chosen(of_rank.size(), 0);
  orders::Order order(of_rank.size());
  while (true) {
    for (std::size_t rank = 0; rank < chosen.size(); ++rank)
      order[rank] = of_rank[rank][chosen[rank]];
    orders::Score score;
    if (clock.run(order, score)) {
      best.makespan = std::min(best.makespan, score.makespan);
      best.cost = std::min(best.cost, score.cost);
    }
    std::size_t rank = 0;
    while (rank < chosen.size() && ++chosen[rank] == of_rank[rank].size()) chosen[rank++] = 0;
    if (rank == chosen.size()) return best;
  }
}

TEST(Search, IsAsFastAsTheBestOfAllOrders) {
  for (const auto& [ranks, microbatches] : {std::pair{2, 2}, {2, 3}, {2, 4}, {3, 2}})
    for (const auto& costs :
         {std::array{1.0, 1.0, 1.0, 0.0}, {5, 6, 4, 0}, {3, 5, 1, 0.5}, {4, 4, 6, 2}})
      for (const double limit : {1.0, 2.0, 9.0}) {
        GeneratorOptions options =
            problem(ranks, microbatches, costs[0], costs[1], costs[2], costs[3]);
        options.memory_limit = {limit};
        SCOPED_TRACE(testing::Message() << "P " << ranks << " M " << microbatches << " F "
                                        << costs[0] << " limit " << limit);
        const orders::Score best = best_of_all(options);
        const Found found = search_schedules(options, kQuick);
        expect_sound(found, options);
        EXPECT_NEAR(found.makespan, best.makespan, 1e-9);
        EXPECT_LE(found.least_makespan, best.makespan * kSame);
        EXPECT_LE(found.least_cost, best.cost * kSame);
      }
}

// The published heuristic's own cases: never slower in makespan or cost, often faster, and mostly
// proved to be the best there is.
TEST(Search, BesideThePublishedHeuristic) {
  std::ifstream file(HEADRACE_SOURCE_DIR "/tests/data/schedules.json");
  const json golden = json::parse(file);
  int count = 0;
  int faster = 0;
  int proved = 0;
  auto numbers = [](const json& value) {
    return value.is_array() ? value.get<std::vector<double>>() : std::vector{value.get<double>()};
  };
  for (const json& record : golden.at("cases")) {
    const std::string id = record.at("id");
    if (!id.starts_with("zbauto")) continue;
    SCOPED_TRACE(id);
    GeneratorOptions options{.ranks = record.at("p"), .microbatches = record.at("m")};
    options.costs.forward = numbers(record.at("costs").at("F"));
    options.costs.backward_input = numbers(record.at("costs").at("B"));
    options.costs.backward_weight = numbers(record.at("costs").at("W"));
    options.costs.latency = record.at("costs").at("comm");
    const json& memory = record.at("memory");
    options.costs.memory_forward = numbers(memory.at("mem_f"));
    options.costs.memory_backward_input = numbers(memory.at("mem_b"));
    options.costs.memory_backward_weight = numbers(memory.at("mem_w"));
    options.memory_limit = numbers(memory.at("max_mem"));
    const Found found = search_schedules(options, kQuick);
    expect_sound(found, options);
    const double makespan = record.at("results").at("makespan");
    const double cost = record.at("results").at("longest_stage_time");
    EXPECT_LE(found.makespan, makespan * kSame);
    EXPECT_LE(found.cost, cost * kSame);
    EXPECT_LE(found.makespan, found.least_makespan * 1.022);
    ++count;
    if (found.makespan * kSame < makespan || found.cost * kSame < cost) ++faster;
    if (found.makespan <= found.least_makespan * kSame) ++proved;
  }
  EXPECT_EQ(count, 74);
  EXPECT_GE(faster, 15);
  EXPECT_GE(proved, 58);
}

TEST(Search, IsNoSlowerThanAnyFixedSchedule) {
  for (const int v : {1, 2, 3})
    for (const int ranks : {1, 2, 4})
      for (const int microbatches : {1, 3, 8})
        for (const double limit : {2.0, 4.0, 100.0}) {
          GeneratorOptions options = problem(ranks, microbatches, 3, 4, 2, 0.5);
          options.stages_per_rank = v;
          options.memory_limit = {limit * v};
          SCOPED_TRACE(testing::Message() << "v " << v << " P " << ranks << " M " << microbatches
                                          << " limit " << limit);
          const Found found = search_schedules(options, {.several_copies = true, .steps = 500'000});
          expect_sound(found, options);
          if (found.fixed.empty()) continue;
          EXPECT_LE(found.makespan, found.fixed_makespan * kSame);
        }
}

TEST(Search, TakesUnequalStagesAndRanks) {
  GeneratorOptions options = problem(4, 12, 0, 1, 1, 0.25);
  options.costs.forward = {2, 1, 1, 3};
  options.costs.backward_input = {2, 1, 1, 4};
  options.costs.backward_weight = {1, 1, 1, 3};
  options.memory_limit = {5, 4, 3, 2};
  expect_sound(search_schedules(options, kQuick), options);
}

TEST(Search, RepeatsItself) {
  GeneratorOptions options = problem(4, 8, 5, 6, 4, 1);
  options.memory_limit = {5};
  EXPECT_EQ(to_csv(search_schedules(options, kQuick).schedule),
            to_csv(search_schedules(options, kQuick).schedule));
  EXPECT_EQ(search(options).name, "auto");
}

TEST(Search, SaysThatNothingFits) {
  GeneratorOptions options = problem(4, 8, 1, 1, 1, 0);
  options.memory_limit = {0.5};
  EXPECT_THAT([&] { search(options); },
              testing::ThrowsMessage<UsageError>(testing::HasSubstr("memory limit")));
}

}  // namespace
}  // namespace headrace
