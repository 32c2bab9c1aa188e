// Chimera beside its authors' schedules: the same order on every rank, their bubble ratios and
// peaks.
#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/lower.h"
#include "headrace/simulate/simulate.h"

namespace headrace {
namespace {

using nlohmann::json;

// Theirs numbers the microbatches pipeline by pipeline ("2F3u0": the first up pipeline), ours deals
// them out: each pipeline's, in ascending order, become every 2f-th.
std::string our_order(const json& record) {
  const int pipelines = record.at("pipelines");
  std::map<std::string, std::vector<int>> of_pipeline;
  struct Token {
    std::string action;
    int microbatch;
    std::string pipeline;
  };
  std::vector<std::vector<Token>> rows;
  for (const json& row : record.at("order")) {
    rows.emplace_back();
    for (const std::string& text : split_text(row.get<std::string>(), ',')) {
      const std::size_t kind = text.find_first_of("FB") + 1;
      const std::size_t way = text.find_first_of("du");
      // A later unit of P microbatches counts from 0 again, in pipelines numbered further.
      const int number = std::stoi(text.substr(way + 1));
      const int unit = number / (pipelines / 2);
      Token token{text.substr(0, kind),
                  std::stoi(text.substr(kind)) + unit * record.at("D").get<int>(),
                  text[way] + std::to_string(number % (pipelines / 2))};
      auto& known = of_pipeline[token.pipeline];
      if (!std::ranges::count(known, token.microbatch)) known.push_back(token.microbatch);
      rows.back().push_back(token);
    }
  }
  for (auto& [pipeline, known] : of_pipeline) std::ranges::sort(known);
  std::string csv;
  for (const auto& row : rows) {
    std::vector<std::string> cells;
    for (const Token& token : row) {
      const auto& known = of_pipeline[token.pipeline];
      const auto turn = std::ranges::find(known, token.microbatch) - known.begin();
      const int replica = (token.pipeline[1] - '0') * 2 + (token.pipeline[0] == 'u' ? 1 : 0);
      cells.push_back(token.action + std::to_string(turn * pipelines + replica));
    }
    csv += join_text(cells, ",") + "\n";
  }
  return csv;
}

TEST(Chimera, IsTheAuthors) {
  std::ifstream file(HEADRACE_SOURCE_DIR "/tests/data/schedules.json");
  const json golden = json::parse(file);
  for (const json& record : golden.at("chimera")) {
    SCOPED_TRACE(record.at("id").get<std::string>());
    const Schedule schedule = generate("chimera", {.ranks = record.at("D"),
                                                   .microbatches = record.at("N"),
                                                   .group_size = record.at("pipelines")});
    const Costs equal{.forward = {1}, .backward_input = {1}, .backward_weight = {0}};
    const Costs twice{.forward = {1}, .backward_input = {1}, .backward_weight = {1}};
    EXPECT_THAT(validate(lower(schedule)).violations, testing::IsEmpty());
    if (record.at("N") < record.at("D")) {
      // The authors fill the first pipeline alone; dealt out, a short batch is done sooner.
      EXPECT_LT(simulate_totals(schedule, equal).makespan, record.at("makespan_F1_B1"));
      EXPECT_LT(simulate_totals(schedule, twice).makespan, record.at("makespan_F1_B2"));
      continue;
    }
    EXPECT_EQ(to_csv(schedule), our_order(record));
    EXPECT_EQ(simulate_totals(schedule, equal).makespan, record.at("makespan_F1_B1"));
    EXPECT_EQ(simulate_totals(schedule, twice).makespan, record.at("makespan_F1_B2"));
    EXPECT_EQ(simulate_totals(schedule, equal).peak_memory,
              record.at("peak_activations_per_rank").get<std::vector<double>>());
  }
}

// Table 2 of the paper, P microbatches: (P-2f)/(2fP + P-2f), and (P-2)/(3P/2 + P-2) where a
// backward takes twice a forward.
TEST(Chimera, BubbleRatios) {
  for (const int ranks : {4, 8, 12, 16})
    for (const int pipelines : {2, 4}) {
      const Schedule schedule =
          generate("chimera", {.ranks = ranks, .microbatches = ranks, .group_size = pipelines});
      const Costs equal{.forward = {1}, .backward_input = {1}, .backward_weight = {0}};
      const double makespan = simulate_totals(schedule, equal).makespan;
      const double gap = ranks - pipelines;
      EXPECT_DOUBLE_EQ((makespan - 2 * ranks) / makespan, gap / (pipelines * ranks + gap));
      if (pipelines > 2) continue;
      const double longer = simulate_totals(schedule, {}).makespan;
      EXPECT_DOUBLE_EQ((longer - 3 * ranks) / longer, gap / (1.5 * ranks + gap));
    }
}

TEST(Chimera, SaysWhichSizesFit) {
  using testing::HasSubstr;
  EXPECT_THAT([] { generate("chimera", {.ranks = 5, .microbatches = 4}); },
              testing::ThrowsMessage<UsageError>(HasSubstr("4 and 6")));
  EXPECT_THAT([] { generate("chimera", {.ranks = 6, .microbatches = 4, .group_size = 4}); },
              testing::ThrowsMessage<UsageError>(HasSubstr("nearest that works is 2")));
}

}  // namespace
}  // namespace headrace
