#include "headrace/schedule/schedule.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/placement.h"

namespace headrace {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Action, TextGoesThereAndBack) {
  for (const char* text : {"0F0", "2B13", "1I2", "1W2", "0SEND_F3", "1RECV_F3", "2SEND_B1",
                           "1RECV_B1", "2REDUCE_GRAD", "10U"})
    EXPECT_EQ(to_string(parse_action(text)), text);
}

TEST(Action, WhatIsNoActionIsRefusedAndQuoted) {
  for (const char* text : {"", "F", "F0", "0F", "0", "00", "0F0junk", "0f0", "-1F0", "0F-1", "0 F0",
                           "0X0", "0REDUCE_GRAD1", "0U1", "0SEND_F", "99999999999F0",
                           "0F99999999999", "(0F0;1B0)F", "()OVERLAP_F_B"})
    EXPECT_THAT([&] { parse_action(text); },
                ThrowsMessage<Error>(HasSubstr("'" + std::string(text) + "'")));
  EXPECT_THAT([] { parse_action("2BW0"); }, ThrowsMessage<Error>(HasSubstr("old dialect")));
}

TEST(Placement, HoldsStages) {
  EXPECT_EQ(loop_placement(3, 2).stages_of(1), (std::vector<int>{1, 4}));
  EXPECT_EQ(v_placement(3).stages_of(1), (std::vector<int>{1, 4}));
  EXPECT_EQ(v_placement(3).stages_of(2), (std::vector<int>{2, 3}));
  const Placement both = bidirectional_placement(4);
  EXPECT_EQ(both.stages_of(1), (std::vector<int>{1, 2}));
  EXPECT_EQ(both.rank(1, 4), 1);
  EXPECT_EQ(both.rank(1, 5), 2);
}

TEST(Csv, IsPyTorchs) {
  EXPECT_EQ(to_csv(one_f_one_b(2, 2)), "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n");
  const Schedule read = parse_csv(
      "0F0 , ,0UNSHARD,(0F1;0B0)OVERLAP_F_B,0B1,0RESHARD\r\n,1F0,1B0,1F1,1B1,1REDUCE_GRAD\r\n",
      "mine");
  EXPECT_EQ(to_csv(read), "0F0,(0F1;0B0)OVERLAP_F_B,0B1\n1F0,1B0,1F1,1B1,1REDUCE_GRAD\n");
  EXPECT_EQ(read.microbatches, 2);
  EXPECT_EQ(read.placement, linear_placement(2));
  EXPECT_FALSE(is_lowered(read));
}

TEST(Csv, InfersReplicasAndLeavesAMisplacedActionMisplaced) {
  EXPECT_EQ(parse_csv("0F0,1F1,1B1,0B0\n1F0,0F1,1B0,0B1\n", "both").placement,
            bidirectional_placement(2));
  EXPECT_EQ(parse_csv("0F0,0F1,0F2\n1F0,1F1,1F2,0F3\n,2F0\n", "wrong").placement,
            linear_placement(3));
}

TEST(Csv, MayBeginWithAByteOrderMarkAndEndInBlankLines) {
  const std::string text = "0F0,0B0\n1F0,1B0\n";
  EXPECT_EQ(to_csv(parse_csv("\xEF\xBB\xBF" + text, "spreadsheet's.csv")), text);
  EXPECT_EQ(to_csv(parse_csv(text + "\r\n  \n\n", "editor's.csv")), text);
}

TEST(Csv, AnEmptyLineIsNoRankThatIdles) {
  for (const char* blank : {"\n", "\r\n", "  \n"})
    EXPECT_THAT([&] { parse_csv(std::string("0F0,0B0\n") + blank + "1F0,1B0\n", "mine.csv"); },
                ThrowsMessage<Error>(HasSubstr("mine.csv: line 2 is empty")));
  EXPECT_THAT([] { parse_csv("\n0F0,0B0\n", "mine.csv"); },
              ThrowsMessage<Error>(HasSubstr("mine.csv: line 1 is empty")));
  for (const std::string text : {"0F0,0B0\n,\n1F0,1B0\n", "0F0,0B0\n1F0,1B0\n,\n"}) {
    const Schedule idle = parse_csv(text, "idle.csv");
    EXPECT_EQ(idle.placement.ranks, 3);
    EXPECT_EQ(to_csv(idle), text);
  }
}

TEST(Csv, ErrorsNameRowAndCell) {
  EXPECT_THAT([] { parse_csv("0F0,0B0\n1F0,,1BW0\n", "mine.csv"); },
              ThrowsMessage<Error>(HasSubstr("mine.csv: row 2 (rank 1), cell 3: '1BW0'")));
  for (const char* cell : {"(0F0)OVERLAP_F_B", "()OVERLAP_F_B", "(0F0;0B0;0F1)OVERLAP_F_B",
                           "(0F0;0SEND_F0)OVERLAP_F_B", "(0F0;0B0)OVERLAP", "(0F0;(0F1;0B0))F"})
    EXPECT_THROW(parse_csv(cell, "mine.csv"), Error) << cell;
  EXPECT_THAT([] { parse_csv("0F0\n2F0\n", "mine.csv"); },
              ThrowsMessage<Error>(HasSubstr("no row computes stage 1")));
  EXPECT_THROW(parse_csv("", "empty.csv"), Error);
  EXPECT_THROW(parse_csv("0F1000000000\n", "huge.csv"), Error);
  EXPECT_THROW(parse_csv("1000000000F0\n", "huge.csv"), Error);
}

TEST(Generators, AreFoundByName) {
  EXPECT_EQ(to_csv(generate("gpipe", {.ranks = 2, .microbatches = 2})),
            "0F0,0F1,0B0,0B1\n1F0,1F1,1B0,1B1\n");
  EXPECT_EQ(to_csv(generate("1f1b", {.ranks = 3, .microbatches = 1})),
            "0F0,0B0\n1F0,1B0\n2F0,2B0\n");
  EXPECT_THAT([] { generate("1f1n", {}); }, ThrowsMessage<UsageError>(HasSubstr("'1f1b'")));
  EXPECT_THROW(generate("1f1b", {.ranks = 0, .microbatches = 1}), UsageError);
  EXPECT_THROW(generate("1f1b", {.ranks = 2, .microbatches = 0}), UsageError);
  EXPECT_THROW(generate("gpipe", {.ranks = 2, .microbatches = 2, .stages_per_rank = 2}),
               UsageError);
}

TEST(Lowered, IsWhatHoldsMessages) {
  EXPECT_FALSE(is_lowered(gpipe(2, 2)));
  EXPECT_TRUE(is_lowered(parse_csv("0F0,0SEND_F0\n1RECV_F0,1F0\n", "sent")));
  // PyTorch's compute-only GPipe holds reductions.
  EXPECT_FALSE(is_lowered(parse_csv("0F0,0B0,0REDUCE_GRAD\n1F0,1B0,1REDUCE_GRAD\n", "torch")));
  EXPECT_TRUE(is_lowered(parse_csv("0F0,0B0,0REDUCE_GRAD\n", "alone")));
}

}  // namespace
}  // namespace headrace
