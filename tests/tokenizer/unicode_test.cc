#include "headrace/tokenizer/unicode.h"

#include <cstddef>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/tokenizer/byte_level.h"

namespace headrace {
namespace {

using std::nullopt;

TEST(Unicode, InvalidBytesAreFound) {
  EXPECT_EQ(invalid_utf8(""), nullopt);
  EXPECT_EQ(invalid_utf8(std::string("a\0\xc3\xa9\xe2\x96\x81\xf0\x9f\x98\x80", 11)), nullopt);
  EXPECT_EQ(invalid_utf8("\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80"), nullopt);
  EXPECT_EQ(invalid_utf8("ab\x80"), 2u);
  EXPECT_EQ(invalid_utf8("a\xc3"), 1u);             // cut off
  EXPECT_EQ(invalid_utf8("\xc0\x80"), 0u);          // longer than needed
  EXPECT_EQ(invalid_utf8("\xed\xa0\x80"), 0u);      // a surrogate
  EXPECT_EQ(invalid_utf8("\xf4\x90\x80\x80"), 0u);  // above U+10FFFF
}

TEST(Unicode, OneReplacementForEachLongestBeginning) {
  const std::string r = "\xef\xbf\xbd";
  EXPECT_EQ(replace_invalid_utf8("a\xe2\x96z"), "a" + r + "z");
  EXPECT_EQ(replace_invalid_utf8("\xed\xa0\x80"), r + r + r);
  EXPECT_EQ(replace_invalid_utf8("\xf0\x9f\x98"), r);
  EXPECT_EQ(replace_invalid_utf8("\xff\xc3\xa9"), r + "\xc3\xa9");
}

TEST(Unicode, CodePointsOfEachLength) {
  for (const char32_t c : {U'\0', U'a', U'\u00e9', U'\u2581', U'\U0001f600', U'\U0010ffff'}) {
    const std::string text = utf8(c);
    EXPECT_EQ(code_point(text, 0).value, c);
    EXPECT_EQ(code_point(text, 0).size, text.size());
    EXPECT_EQ(last_code_point("x" + text).value, c);
  }
  EXPECT_EQ(count_code_points("a\u00e9\u2581"), 3u);
}

TEST(Unicode, NormalForms) {
  EXPECT_EQ(normal_form("e\u0301", NormalForm::Nfc), "\u00e9");
  EXPECT_EQ(normal_form("\u00e9", NormalForm::Nfd), "e\u0301");
  EXPECT_EQ(normal_form("\ufb01\u2460", NormalForm::Nfkc), "fi1");
  EXPECT_EQ(normal_form("\ufb01", NormalForm::Nfc), "\ufb01");
  EXPECT_EQ(normal_form("q\u0307\u0323", NormalForm::Nfd), "q\u0323\u0307");  // marks in order
  EXPECT_EQ(normal_form("\u1100\u1161\u11a8", NormalForm::Nfc), "\uac01");
}

TEST(Unicode, ManyMarksAreOrderedSoon) {
  std::string text = "a";
  for (int i = 0; i < 100000; ++i) text += "\u0301\u0323";
  EXPECT_EQ(normal_form(text, NormalForm::Nfc).substr(0, 5), "\u1ea1\u0323");
}

TEST(Unicode, LowerCaseOneByOne) {
  EXPECT_EQ(lower_case("A\u0130\u03a3Z"), "ai\u0307\u03c3z");
}

TEST(Unicode, Classes) {
  EXPECT_TRUE(is_white_space(U'\u3000') && is_white_space(U'\u0085'));
  EXPECT_FALSE(is_white_space(U'\u180e') || is_white_space(U'\u200b'));
  EXPECT_TRUE(is_punctuation(U'$') && is_punctuation(U'\u3002'));
  EXPECT_FALSE(is_punctuation(U'\u20ac') || is_punctuation(U'a') || is_punctuation(U' '));
  EXPECT_TRUE(is_numeric(U'\u00bd') && is_nonspacing_mark(U'\u0301') && is_control(U'\u200d'));
}

TEST(ByteLevel, EveryByteHasACharacter) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  EXPECT_EQ(to_byte_level(" a\n\xad"), "\u0120a\u010a\u0143");
  EXPECT_EQ(count_code_points(to_byte_level(bytes)), 256u);
  std::string back;
  append_from_byte_level(back, to_byte_level(bytes));
  EXPECT_EQ(back, bytes);
  back.clear();
  append_from_byte_level(back, "a\u2581");  // no byte's character
  EXPECT_EQ(back, "a\u2581");
}

}  // namespace
}  // namespace headrace
