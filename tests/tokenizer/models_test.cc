#include <cstdint>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/tokenizer/merges.h"
#include "headrace/tokenizer/model.h"
#include "tests/tokenizer/small.h"

namespace headrace {
namespace {

using testing::HasSubstr;

Ids encoded(const std::string& element, const std::string& text) {
  Ids ids;
  WordCache cache;
  read_small(read_model, element)->encode(text, cache, ids);
  return ids;
}

TEST(Merges, LowestRankFirstThenLeftmost) {
  Merges merges;
  merges.add(1, 2, 10);  // before what would be found from the left
  merges.add(0, 1, 11);
  merges.add(0, 0, 12);
  merges.add(12, 0, 13);
  Ids ids = {0, 1, 2};
  merges.apply(ids);
  EXPECT_EQ(ids, (Ids{0, 10}));
  ids = {0, 0, 0};
  merges.apply(ids);
  EXPECT_EQ(ids, (Ids{13}));
}

TEST(Merges, ALongWordIsDoneSoon) {
  Merges merges;
  for (std::int32_t i = 0; i < 20; ++i) merges.add(i, i, i + 1);
  Ids ids(1 << 20, 0);
  merges.apply(ids);
  EXPECT_EQ(ids, (Ids{20}));
}

TEST(Bpe, MergesAsStringsAndAsPairs) {
  const std::string vocabulary = R"("vocab": {"a": 0, "b": 1, "ab": 2, " ": 3, "a b": 4})";
  EXPECT_EQ(encoded(R"({"type": "BPE", "merges": ["a b"], )" + vocabulary + "}", "abba"),
            (Ids{2, 1, 0}));
  EXPECT_EQ(encoded(R"({"merges": [["a", "b"]], )" + vocabulary + "}", "ab"), (Ids{2}));
}

TEST(Bpe, UnknownCharacters) {
  const auto with = [](const std::string& more, const std::string& text) {
    return encoded(R"({"type": "BPE", "merges": [],
        "vocab": {"a": 0, "?": 1, "<0xC3>": 2, "<0xA9>": 3})" +
                       more + "}",
                   text);
  };
  EXPECT_EQ(with("", "axy"), (Ids{0}));
  EXPECT_EQ(with(R"(, "unk_token": "?")", "xya"), (Ids{1, 1, 0}));
  EXPECT_EQ(with(R"(, "unk_token": "?", "fuse_unk": true)", "xyax"), (Ids{1, 0, 1}));
  EXPECT_EQ(with(R"(, "unk_token": "?", "byte_fallback": true)", "\u00e9x"), (Ids{2, 3, 1}));
  EXPECT_EQ(with(R"(, "unk_token": "")", "a"), (Ids{0}));
  EXPECT_THAT(error_of<Error>([&] { with(R"(, "unk_token": "")", "x"); }),
              HasSubstr("\"x\" has no token"));
}

TEST(Bpe, IgnoreMerges) {
  const std::string rest = R"("type": "BPE", "merges": [], "vocab": {"a": 0, "b": 1, "ab": 2}})";
  EXPECT_EQ(encoded(R"({"ignore_merges": false, )" + rest, "ab"), (Ids{0, 1}));
  EXPECT_EQ(encoded(R"({"ignore_merges": true, )" + rest, "ab"), (Ids{2}));
}

// Words are done one by one where no merge reaches over their beginning, and only there.
TEST(Bpe, MergesOverTheBeginningOfAWord) {
  const std::string vocabulary =
      R"("vocab": {"a": 0, "\u2581": 1, "\u2581a": 2, "a\u2581": 3, "\u2581\u2581": 4})";
  const std::string text = "a\u2581\u2581\u2581a";
  EXPECT_EQ(
      encoded(R"({"type": "BPE", "merges": ["\u2581 \u2581", "\u2581 a"], )" + vocabulary + "}",
              text),
      (Ids{0, 4, 2}));
  EXPECT_EQ(
      encoded(R"({"type": "BPE", "merges": ["a \u2581", "\u2581 a"], )" + vocabulary + "}", text),
      (Ids{3, 1, 2}));
}

TEST(Bpe, Refusals) {
  const auto refused = [](const std::string& fields) {
    return error_of<UsageError>(
        [&] { encoded(R"({"type": "BPE", "vocab": {"a": 0, "b": 1}, )" + fields + "}", "a"); });
  };
  EXPECT_THAT(refused(R"("merges": ["a b"])"),
              HasSubstr("it.merges[0] names \"ab\", which the vocabulary has not"));
  EXPECT_THAT(refused(R"("merges": ["c a"])"), HasSubstr("names \"c\""));
  EXPECT_THAT(refused(R"("merges": ["a b c"])"), HasSubstr("must be two tokens"));
  EXPECT_THAT(refused(R"("merges": [["a"]])"), HasSubstr("must be two tokens"));
  EXPECT_THAT(refused(R"("merges": {})"), HasSubstr("it.merges must be a list"));
  EXPECT_THAT(refused(R"("merges": [], "dropout": 0.1)"), HasSubstr("it.dropout is set"));
  EXPECT_THAT(refused(R"("merges": [], "continuing_subword_prefix": "##")"),
              HasSubstr("it.continuing_subword_prefix is \"##\""));
  EXPECT_THAT(refused(R"("merges": [], "end_of_word_suffix": "</w>")"),
              HasSubstr("it.end_of_word_suffix is"));
  EXPECT_THAT(refused(R"("merges": [], "unk_token": "?")"),
              HasSubstr("it.unk_token is \"?\", which the vocabulary has not"));
  EXPECT_THAT(refused(R"("merges": [], "cache_capacity": 3)"), HasSubstr("is not known; it is"));
}

TEST(Vocabulary, Refusals) {
  const auto refused = [](const std::string& vocabulary) {
    return error_of<UsageError>(
        [&] { encoded(R"({"type": "BPE", "merges": [], "vocab": )" + vocabulary + "}", "a"); });
  };
  EXPECT_THAT(refused(R"({"a": 0, "b": 0})"), HasSubstr("\"b\" has the id 0, as has \"a\""));
  EXPECT_THAT(refused(R"({"a": 0, "b": 2})"), HasSubstr("\"b\" has the id 2, and 2 tokens"));
  EXPECT_THAT(refused(R"({"a": 0, "b": 2})"), HasSubstr("no token has the id 1"));
  EXPECT_THAT(refused(R"({"a": -1})"), HasSubstr("\"a\" has the id -1"));
  EXPECT_THAT(refused(R"({"a": "0"})"), HasSubstr("for an id"));
  EXPECT_THAT(refused(R"({"a": 0.5})"), HasSubstr("for an id"));
  EXPECT_THAT(refused("{}"), HasSubstr("it.vocab is empty"));
  EXPECT_THAT(refused("[]"), HasSubstr("it.vocab must be tokens with their ids"));
  EXPECT_THAT(refused("null"), HasSubstr("it.vocab is missing"));
}

TEST(WordPiece, TheLongestFirst) {
  const std::string element =
      R"({"type": "WordPiece", "unk_token": "?", "max_input_chars_per_word": 8,
      "continuing_subword_prefix": "##", "vocab": {"?": 0, "a": 1, "ab": 2, "##c": 3, "##cd": 4, "##\u00e9": 5}})";
  EXPECT_EQ(encoded(element, "abcd"), (Ids{2, 4}));
  EXPECT_EQ(encoded(element, "ac\u00e9"), (Ids{1, 3, 5}));
  EXPECT_EQ(encoded(element, "abx"), (Ids{0}));  // nothing goes on from here
  EXPECT_EQ(encoded(element, "abcccccc"), (Ids{2, 3, 3, 3, 3, 3, 3}));
  EXPECT_EQ(encoded(element, "abccccccc"), (Ids{0}));  // longer than a word may be
}

TEST(WordPiece, Refusals) {
  EXPECT_THAT(error_of<UsageError>([] {
                encoded(R"({"type": "WordPiece", "unk_token": "?", "vocab": {"a": 0},
                            "max_input_chars_per_word": -1, "continuing_subword_prefix": 3})",
                        "a");
              }),
              testing::AllOf(HasSubstr("it.unk_token is \"?\", which the vocabulary has not"),
                             HasSubstr("it.max_input_chars_per_word must be a whole number"),
                             HasSubstr("it.continuing_subword_prefix must be text")));
}

}  // namespace
}  // namespace headrace
