// Normalizers, pre-tokenizers, decoders and post-processors, each by its element.
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/tokenizer/decoder.h"
#include "headrace/tokenizer/normalizer.h"
#include "headrace/tokenizer/post_processor.h"
#include "headrace/tokenizer/pre_tokenizer.h"
#include "tests/tokenizer/small.h"

namespace headrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string normalized(const std::string& element, const std::string& text) {
  return read_small(read_normalizer, element)->normalize(text);
}

std::vector<std::string> pieces(const std::string& element,
                                const std::string& text,
                                bool first = true) {
  std::vector<std::string> all;
  const auto keep = [&](const Piece& piece) { all.emplace_back(piece.text); };
  read_small(read_pre_tokenizer, element)->split({text, first}, std::ref(keep));
  return all;
}

std::string decoded(const std::string& element, const std::vector<std::string>& tokens) {
  std::string all;
  for (const std::string& part : read_small(read_decoder, element)->decode(tokens)) all += part;
  return all;
}

Ids processed(const std::string& element) {
  return read_small(read_post_processor, element)->apply({7, 8});
}

TEST(Normalizer, OfEachKind) {
  EXPECT_EQ(normalized(R"({"type": "NFC"})", "e\u0301"), "\u00e9");
  EXPECT_EQ(normalized(R"({"type": "NFD"})", "\u00e9"), "e\u0301");
  EXPECT_EQ(normalized(R"({"type": "NFKC"})", "\ufb01"), "fi");
  EXPECT_EQ(normalized(R"({"type": "NFKD"})", "\u00bd"), "1\u20442");
  EXPECT_EQ(normalized(R"({"type": "Lowercase"})", "\u00c9A"), "\u00e9a");
  EXPECT_EQ(normalized(R"({"type": "StripAccents"})", "e\u0301\u00e9"), "e\u00e9");
  EXPECT_EQ(normalized(R"({"type": "Strip", "strip_left": true, "strip_right": false})", " \ta "),
            "a ");
  EXPECT_EQ(normalized(R"({"type": "Strip", "strip_left": true, "strip_right": true})", " \u3000"),
            "");
  EXPECT_EQ(normalized(R"({"type": "Prepend", "prepend": "_"})", "a"), "_a");
  EXPECT_EQ(normalized(R"({"type": "Prepend", "prepend": "_"})", ""), "");
  EXPECT_EQ(normalized(R"({"type": "Replace", "pattern": {"String": "."}, "content": "!"})", "a.b"),
            "a!b");
  EXPECT_EQ(
      normalized(R"({"type": "Replace", "pattern": {"Regex": " +"}, "content": "$1"})", "a  b"),
      "a$1b");
  EXPECT_EQ(normalized(R"({"type": "ByteLevel"})", " "), "\u0120");
  EXPECT_EQ(normalized(R"({"type": "Sequence", "normalizers": [{"type": "Lowercase"},
                           {"type": "Prepend", "prepend": "A"}]})",
                       "B"),
            "Ab");
}

TEST(Normalizer, Berts) {
  const std::string text = std::string("A\0\t\u00c9\u6f22", 8) + "\u200d!";
  EXPECT_EQ(normalized(R"({"type": "BertNormalizer", "clean_text": true, "lowercase": true,
                           "handle_chinese_chars": true, "strip_accents": null})",
                       text),
            "a e \u6f22 !");
  EXPECT_EQ(normalized(R"({"type": "BertNormalizer", "clean_text": false, "lowercase": false,
                           "handle_chinese_chars": false, "strip_accents": null})",
                       text),
            text);
  EXPECT_EQ(normalized(R"({"type": "BertNormalizer", "clean_text": false, "lowercase": true,
                           "handle_chinese_chars": false, "strip_accents": false})",
                       "\u00c9"),
            "\u00e9");
}

TEST(PreTokenizer, OfEachKind) {
  EXPECT_THAT(pieces(R"({"type": "Whitespace"})", "it's a_b\u0301 \u20ac!"),
              ElementsAre("it", "'", "s", "a_b\u0301", "\u20ac!"));
  EXPECT_THAT(pieces(R"({"type": "WhitespaceSplit"})", " it's\n\u3000a "),
              ElementsAre("it's", "a"));
  EXPECT_THAT(pieces(R"({"type": "Digits", "individual_digits": true})", "a12b"),
              ElementsAre("a", "1", "2", "b"));
  EXPECT_THAT(pieces(R"({"type": "Digits", "individual_digits": false})", "a12b"),
              ElementsAre("a", "12", "b"));
  EXPECT_THAT(pieces(R"({"type": "Punctuation"})", "a,$b"), ElementsAre("a", ",", "$", "b"));
  EXPECT_THAT(pieces(R"({"type": "BertPreTokenizer"})", "Hi, you "), ElementsAre("Hi", ",", "you"));
  EXPECT_THAT(pieces(R"({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
                         {"type": "Digits", "individual_digits": true}]})",
                     "a 12"),
              ElementsAre("a", "1", "2"));
}

TEST(PreTokenizer, SplitByEachBehavior) {
  const auto split = [](const std::string& behavior, const std::string& invert) {
    return pieces(R"({"type": "Split", "pattern": {"Regex": "\\d"}, "behavior": ")" + behavior +
                      R"(", "invert": )" + invert + "}",
                  "1a22b");
  };
  EXPECT_THAT(split("Isolated", "false"), ElementsAre("1", "a", "2", "2", "b"));
  EXPECT_THAT(split("Removed", "false"), ElementsAre("a", "b"));
  EXPECT_THAT(split("MergedWithPrevious", "false"), ElementsAre("1", "a2", "2", "b"));
  EXPECT_THAT(split("MergedWithNext", "false"), ElementsAre("1a", "2", "2b"));
  EXPECT_THAT(split("Contiguous", "false"), ElementsAre("1", "a", "22", "b"));
  EXPECT_THAT(split("Removed", "true"), ElementsAre("1", "2", "2"));
}

TEST(PreTokenizer, ByteLevels) {
  EXPECT_THAT(pieces(R"({"type": "ByteLevel", "add_prefix_space": true})", "I'll go\n"),
              ElementsAre("\u0120I", "'ll", "\u0120go", "\u010a"));
  EXPECT_THAT(pieces(R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": false,
                         "trim_offsets": false})",
                     " a b"),
              ElementsAre("\u0120a\u0120b"));
}

TEST(PreTokenizer, MetaspacePrepends) {
  const auto split = [](const std::string& more, const std::string& text, bool first = true) {
    return pieces(R"({"type": "Metaspace", "replacement": "_")" + more + "}", text, first);
  };
  EXPECT_THAT(split("", "a b"), ElementsAre("_a", "_b"));
  EXPECT_THAT(split("", " a"), ElementsAre("_a"));
  EXPECT_THAT(split(R"(, "split": false, "str_rep": "_")", "a b"), ElementsAre("_a_b"));
  EXPECT_THAT(split(R"(, "prepend_scheme": "first")", "a", false), ElementsAre("a"));
  EXPECT_THAT(split(R"(, "prepend_scheme": "first")", "a", true), ElementsAre("_a"));
  EXPECT_THAT(split(R"(, "prepend_scheme": "never")", "a b"), ElementsAre("a", "_b"));
  EXPECT_THAT(split(R"(, "add_prefix_space": false)", "a b"), ElementsAre("a", "_b"));
  EXPECT_THAT(error_of<UsageError>(
                  [&] { split(R"(, "add_prefix_space": false, "prepend_scheme": "first")", "a"); }),
              HasSubstr("which prepend_scheme contradicts"));
}

TEST(Decoder, OfEachKind) {
  EXPECT_EQ(decoded(R"({"type": "ByteLevel"})", {"\u0120a", "\u00c3", "\u00a9", "\u00c3"}),
            " a\u00e9\ufffd");
  EXPECT_EQ(decoded(R"({"type": "WordPiece", "prefix": "##", "cleanup": true})",
                    {"head", "##race", "is", "n't", ",", "do not"}),
            "headrace isn't, don't");
  EXPECT_EQ(decoded(R"({"type": "WordPiece", "prefix": "##", "cleanup": false})", {"a", ","}),
            "a ,");
  EXPECT_EQ(decoded(R"({"type": "Metaspace", "replacement": "_"})", {"_a_", "_b"}), "a b");
  EXPECT_EQ(decoded(R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "never"})",
                    {"_a", "_b"}),
            " a b");
  EXPECT_EQ(decoded(R"({"type": "ByteFallback"})", {"<0xC3>", "<0xA9>", "x", "<0xC3>", "<0x4>"}),
            "\u00e9x\ufffd<0x4>");
  EXPECT_EQ(decoded(R"({"type": "Strip", "content": "_", "start": 1, "stop": 2})", {"__a___", "_"}),
            "_a_");
  EXPECT_EQ(
      decoded(R"({"type": "Replace", "pattern": {"String": "_"}, "content": " "})", {"a_", "_"}),
      "a  ");
  EXPECT_EQ(decoded(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
                        {"type": "Strip", "content": "a", "start": 1, "stop": 0}]})",
                    {"a", "ab"}),
            "ab");
}

TEST(PostProcessor, OfEachKind) {
  EXPECT_EQ(processed(R"({"type": "ByteLevel", "trim_offsets": false})"), (Ids{7, 8}));
  EXPECT_EQ(processed(R"({"type": "BertProcessing", "sep": ["s", 2], "cls": ["c", 1]})"),
            (Ids{1, 7, 8, 2}));
  EXPECT_EQ(processed(R"({"type": "RobertaProcessing", "sep": ["s", 2], "cls": ["c", 1],
                          "trim_offsets": true, "add_prefix_space": true})"),
            (Ids{1, 7, 8, 2}));
  EXPECT_EQ(processed(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "s", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
       "pair": [], "special_tokens": {"s": {"id": "s", "ids": [3, 4], "tokens": ["x", "y"]}}}]})"),
            (Ids{3, 4, 7, 8}));
}

}  // namespace
}  // namespace headrace
