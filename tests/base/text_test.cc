#include "headrace/base/text.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

TEST(Text, ReadsNumbersAndUnits) {
  EXPECT_EQ(parse_bytes("4GiB", "memory"), 4LL << 30);
  EXPECT_EQ(parse_bytes("1.5 KB", "memory"), 1500);
  EXPECT_EQ(parse_bytes("17", "memory"), 17);
  EXPECT_DOUBLE_EQ(parse_seconds("12ms", "limit"), 0.012);
  EXPECT_DOUBLE_EQ(parse_seconds("3", "limit"), 3);
  EXPECT_DOUBLE_EQ(parse_seconds("2min", "limit"), 120);
  EXPECT_EQ(parse_list("2, 4,8", "ranks"), (std::vector<int>{2, 4, 8}));
  EXPECT_EQ(parse_integer("-3", "x"), -3);
  EXPECT_DOUBLE_EQ(parse_number("1e-3", "x"), 0.001);
}

TEST(Text, RefusesWhatIsNoNumberAndQuotesIt) {
  for (const char* text : {"", "x", "4 GiBs", "4GG", "--4", "-1KiB", "1e30GiB"}) {
    EXPECT_THAT([&] { parse_bytes(text, "memory"); },
                testing::ThrowsMessage<UsageError>(
                    testing::HasSubstr("memory is '" + std::string(text) + "'")));
  }
  EXPECT_THROW(parse_list("2,,4", "ranks"), UsageError);
  EXPECT_THROW(parse_list("2,4x", "ranks"), UsageError);
  EXPECT_THROW(parse_integer("3.5", "x"), UsageError);
  EXPECT_THROW(parse_number("", "x"), UsageError);
  for (const char* text : {"nan", "inf", "-inf", "1e999"})
    EXPECT_THROW(parse_number(text, "x"), UsageError) << text;
}

TEST(Text, WritesUnits) {
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(17), "17 B");
  EXPECT_EQ(seconds_text(0.0123), "12.3 ms");
  EXPECT_EQ(seconds_text(1.5), "1.50 s");
  EXPECT_EQ(count_text(1234567), "1,234,567");
  EXPECT_EQ(count_text(-1234), "-1,234");
  EXPECT_EQ(count_text(12), "12");
  EXPECT_EQ(fixed_text(2.0 / 3, 3), "0.667");
}

TEST(Text, SplitsJoinsAndTrims) {
  EXPECT_EQ(split_text("a,,b", ','), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(join_text({"a", "b"}, ", "), "a, b");
  EXPECT_EQ(trim(" \ta b\r\n"), "a b");
  EXPECT_EQ(trim("  "), "");
}

TEST(Text, SuggestsTheNearestWordOrNone) {
  EXPECT_EQ(nearest("shwo", {"show", "check"}), "show");
  EXPECT_EQ(nearest("interleave", {"1f1b", "interleaved"}), "interleaved");
  EXPECT_EQ(nearest("xyzzy", {"show", "check"}), "");
}

}  // namespace
}  // namespace headrace
