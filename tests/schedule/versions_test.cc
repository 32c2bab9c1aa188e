// Weight versions and staleness of the asynchronous schedules, and PipeDream's own orders.
#include "headrace/schedule/versions.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "headrace/base/text.h"
#include "headrace/schedule/generators/generators.h"

namespace headrace {
namespace {

using nlohmann::json;

const json& golden() {
  static const json kGolden =
      json::parse(std::ifstream(HEADRACE_SOURCE_DIR "/tests/data/schedules.json"));
  return kGolden;
}

TEST(Versions, OfPipeDream) {
  for (const json& record : golden().at("pipedream_weight_versions")) {
    const Schedule schedule =
        generate("pipedream", {.ranks = record.at("p"), .microbatches = record.at("minibatches")});
    const auto versions = weight_versions(schedule);
    for (const json& stage : record.at("stages")) {
      const std::size_t s = stage.at("stage");
      SCOPED_TRACE("stage " + std::to_string(s));
      EXPECT_EQ(versions[s].version, stage.at("version_used").get<std::vector<int>>());
      EXPECT_EQ(versions[s].staleness, stage.at("delay_at_update").get<std::vector<int>>());
      EXPECT_EQ(versions[s].stored, stage.at("num_versions").get<int>());
      std::vector<std::string> order;
      for (const Action& action : schedule.ranks[s])
        if (action.kind != Kind::Update)
          order.push_back(std::string(kind_text(action.kind)) + std::to_string(action.microbatch));
      EXPECT_EQ(join_text(order, ","), stage.at("sequence").get<std::string>());
    }
  }
}

TEST(Versions, OfPipeDream2BW) {
  for (const json& record : golden().at("pipedream_2bw_versions")) {
    const auto expected = record.at("version").get<std::vector<int>>();
    const int batch = record.at("m");
    const auto versions = weight_versions(
        generate("pipedream-2bw", {.ranks = record.at("d"),
                                   .microbatches = static_cast<int>(expected.size()),
                                   .group_size = batch}));
    for (const StageVersions& stage : versions) {
      EXPECT_EQ(stage.version, expected);
      EXPECT_EQ(stage.stored, 2);
      for (std::size_t m = 0; m < expected.size(); ++m)
        EXPECT_EQ(stage.staleness[m], static_cast<int>(m) < batch ? 0 : 1);
    }
  }
}

TEST(Versions, OfASynchronousScheduleAreNone) {
  for (const StageVersions& stage : weight_versions(one_f_one_b(3, 5))) {
    EXPECT_THAT(stage.version, testing::Each(0));
    EXPECT_THAT(stage.staleness, testing::Each(0));
    EXPECT_EQ(stage.stored, 1);
  }
}

}  // namespace
}  // namespace headrace
