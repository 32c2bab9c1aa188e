#include "headrace/tokenizer/regex.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/tokenizer/regex_syntax.h"
#include "tests/tokenizer/small.h"

namespace headrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  const Regex regex = Regex::of_pattern(pattern);
  std::vector<std::string> all;
  RegexMatches found(regex, text);
  while (found.next()) all.push_back(text.substr(found.begin(), found.end() - found.begin()));
  return all;
}

TEST(Regex, MatchesOneAfterTheOther) {
  EXPECT_THAT(matches(R"(\p{L}+|\s+)", "to be"), ElementsAre("to", " ", "be"));
  EXPECT_THAT(matches(R"(\s+(?!\S)|\s+)", "a   b"), ElementsAre("  ", " "));
  EXPECT_THAT(matches("(?i:'S)", "'s'\u017f"), ElementsAre("'s", "'\u017f"));
  EXPECT_THAT(matches("x", "abc"), IsEmpty());
}

TEST(Regex, AnEmptyMatchIsNoneWhereTheLastEnded) {
  EXPECT_THAT(matches("b*", "abba"), ElementsAre("", "bb", ""));
  EXPECT_THAT(matches("(?=\u00e9)", "\u00e9\u00e9"), ElementsAre("", ""));
}

TEST(Regex, ReadsAsOnigurumaDoes) {
  EXPECT_THAT(matches(R"(\s)", "\u180e\u0085\u2028"), ElementsAre("\u0085", "\u2028"));
  EXPECT_THAT(matches(R"([^\S\n]+)", " \n\t"), ElementsAre(" ", "\t"));
  EXPECT_THAT(matches(R"(\w+)", "a\u0301_\u00b2-b"), ElementsAre("a\u0301_\u00b2", "b"));
  EXPECT_THAT(matches("^.", "a\nb"), ElementsAre("a", "b"));  // ^ begins lines
  EXPECT_THAT(matches(R"(\p{Han}|\p{^L}|[\u0041\x42\x{43}])", "\u6f22\u3001ABCD"),
              ElementsAre("\u6f22", "\u3001", "A", "B", "C"));
  EXPECT_THAT(matches(R"(\v)", "\n\x0b"), ElementsAre("\x0b"));
}

TEST(Regex, WhatIsReadOtherwiseIsRefused) {
  for (const std::string pattern :
       {R"(\h)",   R"(\R)",   R"(\bx)",  "[a[b]]", "[a&&b]",   "a(?i)b",  "(?m:a)",
        "(?<n>a)", "a{1,2}+", "a{,2}",   R"(\pL)", R"(\p{})",  R"(\xff)", R"(\x{})",
        "[]a]",    "(*F)",    R"([\W])", "a\\",    R"(\k<n>)", R"(\1)"})
    EXPECT_THAT(error_of<UsageError>([&] { Regex::of_pattern(pattern); }),
                HasSubstr("is not understood"))
        << pattern;
  EXPECT_THAT(error_of<UsageError>([] { Regex::of_pattern("a("); }),
              HasSubstr("is wrong at byte 2"));
  EXPECT_THAT(error_of<UsageError>([] { Regex::of_pattern(R"(\p{Nothing})"); }),
              HasSubstr("is wrong at byte"));
}

TEST(Regex, ATextThatStandsForItself) {
  const std::string text = "a.b*(\\\u2581)#\n";
  const Regex regex = Regex::of_text(text);
  const std::string around = "xaxb" + text;
  RegexMatches found(regex, around);
  ASSERT_TRUE(found.next());
  EXPECT_EQ(found.begin(), 4u);
}

TEST(Regex, GivesUpWithAnError) {
  const std::string text(40, 'a');
  EXPECT_THAT(error_of<Error>([&] { matches("(?:a+a+)+[bc]", text); }),
              HasSubstr("gave up at byte 0"));
}

}  // namespace
}  // namespace headrace
