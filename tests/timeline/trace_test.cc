#include <cstddef>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "headrace/schedule/action.h"
#include "headrace/timeline/chrome.h"
#include "headrace/timeline/metrics.h"
#include "headrace/timeline/svg.h"
#include "headrace/timeline/timeline.h"

namespace headrace {
namespace {

Timeline one_message() {
  return {
      .name = "a \"name\"",
      .ranks = {{{.action = parse_action("0F3"), .start = 0, .end = 2}},
                {{.action = parse_action("1F3"), .start = 0, .end = 6, .wait = 2, .transfer = 1}}}};
}

TEST(Chrome, HasAProcessARankASliceAnActionAndAnArrowAMessage) {
  const nlohmann::json trace = nlohmann::json::parse(chrome_trace(one_message()));
  EXPECT_EQ(trace["otherData"]["name"], "a \"name\"");
  std::vector<std::string> slices, arrows;
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] == "X")
      slices.push_back(event["pid"].dump() + " " + event["cat"].get<std::string>() + " " +
                       event["name"].get<std::string>() + " " + event["ts"].dump() + " " +
                       event["dur"].dump());
    if (event["ph"] == "s" || event["ph"] == "f")
      arrows.push_back(event["ph"].get<std::string>() + " " + event["pid"].dump() + " " +
                       event["id"].dump());
  }
  EXPECT_THAT(slices,
              testing::ElementsAre("0 compute 0F3 0.0 2000.0", "1 wait wait for 1F3 0.0 2000.0",
                                   "1 transfer transfer for 1F3 2000.0 1000.0",
                                   "1 compute 1F3 3000.0 3000.0"));
  EXPECT_THAT(arrows, testing::ElementsAre("s 0 1", "f 1 1"));
}

TEST(Chrome, MeasuredTimesAreSeconds) {
  Timeline timeline = one_message();
  timeline.measured = true;
  EXPECT_THAT(chrome_trace(timeline), testing::HasSubstr("\"dur\":2000000.0"));
}

TEST(Svg, IsAPictureWithBubblesAndALegend) {
  const std::string picture = svg(one_message());
  for (const char* part : {"<svg xmlns", "rank 1", "<title>1F3</title>", ">forward<", ">bubble<",
                           "url(#bubble)", "</svg>"})
    EXPECT_THAT(picture, testing::HasSubstr(part));
}

TEST(Metrics, OfNothingAreZero) {
  const Metrics metrics = measure({.ranks = {{}, {}}});
  EXPECT_EQ(metrics.makespan, 0);
  EXPECT_EQ(metrics.bubble, 0);
  EXPECT_EQ(metrics.cost, 0);
}

TEST(Metrics, AddUpToTheMakespanOnEachRank) {
  const Metrics metrics = measure(one_message());
  EXPECT_EQ(metrics.makespan, 6);
  EXPECT_EQ(metrics.cost, 3);
  EXPECT_EQ(metrics.ideal, 3);
  for (const RankMetrics& rank : metrics.ranks)
    EXPECT_EQ(rank.forward + rank.wait + rank.transfer + rank.idle, 6);
  EXPECT_DOUBLE_EQ(metrics.ranks[0].bubble, 1 - 2.0 / 6);
}

}  // namespace
}  // namespace headrace
