#include "headrace/timeline/draw.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/schedule/action.h"
#include "headrace/timeline/timeline.h"

namespace headrace {
namespace {

using testing::HasSubstr;
using testing::Not;

Timeline two_ranks() {
  Timeline timeline = {.name = "two"};
  timeline.ranks = {{{.action = parse_action("0F0"), .start = 0, .end = 1},
                     {.action = parse_action("0F1"), .start = 1, .end = 2},
                     {.action = parse_action("0B0"), .start = 2, .end = 6, .wait = 2},
                     {.action = parse_action("0REDUCE_GRAD"), .start = 6, .end = 7}},
                    {{.action = parse_action("1F0"), .start = 0, .end = 2, .wait = 1},
                     {.action = parse_action("1B0"), .start = 2, .end = 4},
                     {.action = parse_action("1F1"), .start = 4, .end = 6, .transfer = 1},
                     {.action = parse_action("1SEND_B0"), .start = 6, .end = 6}}};
  return timeline;
}

TEST(Draw, IsALaneARank) {
  EXPECT_EQ(draw(two_ranks()),
            "rank 0 |F0 F1 ......B0--- R- \n"
            "rank 1 |...F0 B0--- ~~~F1 ...\n");
}

TEST(Draw, ScalesTimesOfAnyUnit) {
  Timeline timeline = two_ranks();
  for (auto& events : timeline.ranks) {
    for (Event& event : events) {
      event.start *= 1e-3;
      event.end *= 1e-3;
      event.wait *= 1e-3;
      event.transfer *= 1e-3;
    }
  }
  EXPECT_EQ(draw(timeline), draw(two_ranks()));
}

TEST(Draw, CutsToTheWidthWithAWord) {
  EXPECT_EQ(draw(two_ranks(), {.width = 22}),
            "rank 0 |F0 F1 ......B0\n"
            "rank 1 |...F0 B0--- ~~\n"
            "(cut: the first 67% of the time; --width 29 shows all)\n");
  EXPECT_THAT(draw(two_ranks(), {.lanes = 1}), HasSubstr("(1 more ranks are not shown)"));
}

TEST(Draw, ShowsStagesWhereARankHasSeveral) {
  Timeline timeline = {.ranks = {{{.action = parse_action("0F0"), .start = 0, .end = 1},
                                  {.action = parse_action("1F0"), .start = 1, .end = 2}}}};
  EXPECT_EQ(draw(timeline), "rank 0 |0F0 1F0 \n");
}

TEST(Draw, ColoursOnlyWhenAsked) {
  EXPECT_THAT(draw(two_ranks()), Not(HasSubstr("\033")));
  EXPECT_THAT(draw(two_ranks(), {.colour = true}), HasSubstr("\033[30;44mF0"));
  EXPECT_EQ(draw(Timeline{}), "nothing to draw\n");
}

}  // namespace
}  // namespace headrace
