// How a run is laid out for another number of processes than it asked for.
#include "headrace/train/elastic.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

Config config_of(const std::vector<std::string>& settings) {
  Config config = parse_config(R"([model]
layers = 6
width = 16
heads = 2
context = 16
vocabulary = 64
[data]
tokens = "a.tokens"
[train]
steps = 3
microbatch = 1
microbatches = 8
)",
                               "a.toml", settings);
  resolve(config);
  return config;
}

std::string refusal(int processes, const Config& config) {
  try {
    laid_out_for(processes, config);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "not refused";
}

TEST(Elastic, WhatFitsIsLeftAsItIs) {
  const LaidOut same = laid_out_for(3, config_of({"pipeline.ranks=3"}));
  EXPECT_EQ(same.what, "");
  EXPECT_EQ(same.config.pipeline.ranks, 3);
}

TEST(Elastic, FewerAndMoreRanksAreCutAnew) {
  const Config config = config_of({"pipeline.ranks=3", "pipeline.balance=[1, 2, 3]"});
  const LaidOut two = laid_out_for(2, config);
  EXPECT_EQ(two.config.pipeline.ranks, 2);
  EXPECT_THAT(two.config.pipeline.balance, IsEmpty());
  EXPECT_THAT(
      two.what,
      StartsWith(
          "2 processes instead of 3: ranks 3 -> 2; by the layers' estimated costs a step takes "));
  // Three ranks as unevenly cut are no faster than two cut well.
  EXPECT_THAT(two.what, HasSubstr(" times as long"));
  EXPECT_EQ(laid_out_for(1, config).config.pipeline.ranks, 1);
  EXPECT_EQ(laid_out_for(5, config).config.pipeline.ranks, 5);
}

// As long as they can, replicas stay, since sums are added up by them; then ranks.
TEST(Elastic, ReplicasStayWhereTheyCan) {
  const Config config = config_of({"pipeline.ranks=3", "pipeline.replicas=2"});
  const auto shape = [&](int processes) {
    const PipelineConfig pipeline = laid_out_for(processes, config).config.pipeline;
    return std::vector<int>{pipeline.ranks, pipeline.replicas.front()};
  };
  EXPECT_EQ(shape(4), (std::vector<int>{2, 2}));
  EXPECT_EQ(shape(8), (std::vector<int>{4, 2}));
  EXPECT_EQ(shape(3), (std::vector<int>{3, 1}));
  EXPECT_EQ(shape(5), (std::vector<int>{5, 1}));
  EXPECT_THAT(laid_out_for(3, config).what, HasSubstr("replicas 2 -> 1"));
}

TEST(Elastic, TheTimeOfAStepIsThatOfTheSimulator) {
  // 6 blocks over 6 ranks and over 1, 8 microbatches: (8 + 5) / 6 of a rank's work, as far as stages are even.
  const std::string what = laid_out_for(1, config_of({"pipeline.ranks=6"})).what;
  const std::size_t at = what.find("a step takes ");
  ASSERT_NE(at, std::string::npos) << what;
  const double times = std::stod(what.substr(at + 13));
  EXPECT_GT(times, 2) << what;
  EXPECT_LT(times, 8 * 6 / 13.0) << what;
}

TEST(Elastic, WhatCannotBeIsRefusedWithWhatIsMissing) {
  EXPECT_THAT(refusal(40, config_of({"pipeline.ranks=2"})),
              AllOf(StartsWith("40 processes are there, and the run cannot be laid out for them; "
                               "ranks 40, replicas 1: "),
                    HasSubstr("stages")));
}

}  // namespace
}  // namespace headrace
