#include "headrace/tokenizer/tokenizer_json.h"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/tokenizer/tokenizer.h"
#include "tests/tokenizer/small.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string added(const std::string& fields) {
  return R"({"added_tokens": [{"id": 6, "content": "<s>", "special": true)" + fields + "}]}";
}

std::string refused(const std::string& fields) {
  return error_of<UsageError>([&] { small_tokenizer(fields); });
}

TEST(TokenizerJson, EncodesAndDecodes) {
  const auto tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer->encode("abc ba"), (Ids{4, 5, 1, 0}));
  EXPECT_EQ(tokenizer->decode(Ids{4, 5, 1, 0}), "abc ba");
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->vocabulary(), 6);
  EXPECT_EQ(tokenizer->id_of("ab"), 3);
  EXPECT_EQ(tokenizer->id_of("x"), std::nullopt);
}

TEST(TokenizerJson, WithoutADecoderTokensStandApart) {
  EXPECT_EQ(small_tokenizer(R"({"decoder": null})")->decode(Ids{4, 0}), "abc a");
}

TEST(TokenizerJson, ItsNameIsItsContent) {
  const auto one = small_tokenizer();
  EXPECT_THAT(one->name(), HasSubstr("tokenizer.json "));
  EXPECT_EQ(one->name(), small_tokenizer()->name());
  EXPECT_NE(one->name(), small_tokenizer(R"({"normalizer": {"type": "NFC"}})")->name());
}

TEST(TokenizerJson, SpecialTokens) {
  const auto tokenizer =
      small_tokenizer(R"({"added_tokens": [{"id": 6, "content": "<s>", "special": true}],
      "post_processor": {"type": "BertProcessing", "cls": ["<s>", 6], "sep": ["<s>", 6]}})");
  EXPECT_EQ(tokenizer->vocabulary(), 7);
  EXPECT_EQ(tokenizer->id_of("<s>"), 6);
  EXPECT_EQ(tokenizer->encode("a<s>b"), (Ids{0, 6, 1}));
  EXPECT_EQ(tokenizer->encode("a", SpecialTokens::With), (Ids{6, 0, 6}));
  EXPECT_EQ(tokenizer->decode(Ids{6, 0, 6}), "<s>a<s>");
  EXPECT_EQ(tokenizer->decode(Ids{6, 0, 6}, SpecialTokens::Without), "a");
}

TEST(AddedTokens, TheirWhiteSpaceAndNeighbours) {
  EXPECT_EQ(small_tokenizer(added(R"(, "lstrip": true, "rstrip": true)"))->encode("a  <s> <s> b"),
            (Ids{0, 6, 6, 1}));
  const auto word = small_tokenizer(added(R"(, "single_word": true)"));
  EXPECT_EQ(word->encode("a <s> b"), (Ids{0, 5, 6, 5, 1}));
  EXPECT_EQ(word->encode("a<s>"), (Ids{0}));  // < s > are no characters of the vocabulary
}

TEST(AddedTokens, TheLongestIsTaken) {
  const auto tokenizer = small_tokenizer(R"({"added_tokens": [
      {"id": 6, "content": "<a", "special": false, "normalized": false},
      {"id": 7, "content": "<a>", "special": false, "normalized": false}]})");
  EXPECT_EQ(tokenizer->encode("<a><ab"), (Ids{7, 6, 1}));
}

TEST(AddedTokens, NormalizedAreFoundAfterTheNormalizer) {
  const auto tokenizer = small_tokenizer(R"({"normalizer": {"type": "Lowercase"}, "added_tokens": [
      {"id": 6, "content": "XY", "special": false, "normalized": true},
      {"id": 7, "content": "Z", "special": false, "normalized": false}]})");
  EXPECT_EQ(tokenizer->encode("AxYZz"), (Ids{0, 6, 7}));
  EXPECT_EQ(tokenizer->decode(Ids{6, 7}), "xyZ");
}

TEST(TokenizerJson, AnIdOutsideIsNamed) {
  EXPECT_THAT(error_of<Error>([] { small_tokenizer()->decode(Ids{0, 6}); }),
              AllOf(HasSubstr("token 1 to decode has id 6"), HasSubstr("are 0 to 5")));
  EXPECT_THAT(error_of<Error>([] { small_tokenizer()->decode(Ids{-1}); }), HasSubstr("id -1"));
}

TEST(TokenizerJson, TextThatIsNotUtf8) {
  EXPECT_THAT(error_of<Error>([] { small_tokenizer()->encode("ab\xff"); }),
              HasSubstr("not UTF-8 at byte 2 of 3"));
}

TEST(TokenizerJson, ThreadsShareOne) {
  const auto tokenizer = small_tokenizer(R"({"pre_tokenizer": {"type": "Split", "invert": false,
      "pattern": {"Regex": "\\s+"}, "behavior": "Isolated"}})");
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "abc ba ";
  const Ids expected = tokenizer->encode(text);
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (Ids& result : results) threads.emplace_back([&] { result = tokenizer->encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& result : results) EXPECT_EQ(result, expected);
}

TEST(TokenizerJson, AllThatIsNotUnderstoodIsToldAtOnce) {
  EXPECT_THAT(
      refused(R"({"version": "2.0", "extra": 1, "normalizer": {"type": "Precompiled"},
          "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "X"}]},
          "decoder": {"type": "CTC"}, "post_processor": {"type": "Y"}})"),
      AllOf(HasSubstr("6 faults"), HasSubstr("small.json: version is \"2.0\""),
            HasSubstr("\"extra\" is not known"),
            HasSubstr("normalizer.type is 'Precompiled'; known: Sequence, NFC"),
            HasSubstr("pre_tokenizer.pretokenizers[1].type is 'X'; known: Sequence, ByteLevel"),
            HasSubstr("decoder.type is 'CTC'"), HasSubstr("post_processor.type is 'Y'")));
  EXPECT_THAT(refused(R"({"model": {"type": "Unigram"}})"),
              HasSubstr("model.type is 'Unigram'; known: BPE, WordPiece"));
  EXPECT_THAT(refused(R"({"model": null})"), HasSubstr("model is missing"));
  EXPECT_THAT(refused(R"({"normalizer": []})"), HasSubstr("normalizer is not an object"));
}

TEST(TokenizerJson, FieldsAreReadStrictly) {
  const auto split = [](const std::string& fields) {
    return refused(R"({"pre_tokenizer": {"type": "Split", )" + fields + "}}");
  };
  EXPECT_THAT(split(R"("pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false)"),
              HasSubstr("pre_tokenizer.pattern cannot be used"));
  EXPECT_THAT(split(R"("pattern": {"String": ""}, "behavior": "Isolated", "invert": false)"),
              HasSubstr("pre_tokenizer.pattern is empty"));
  EXPECT_THAT(split(R"("pattern": {}, "behavior": "Isolated", "invert": false)"),
              HasSubstr("must hold one of String and Regex"));
  EXPECT_THAT(
      split(R"("pattern": {"String": "a"}, "behavior": "isolated", "invert": 1, "more": 2)"),
      AllOf(HasSubstr("pre_tokenizer.behavior is \"isolated\"; known: Removed, Isolated"),
            HasSubstr("pre_tokenizer.invert must be true or false; it is \"1\""),
            HasSubstr("\"more\" is not known; it is \"2\"")));
  EXPECT_THAT(split(R"("behavior": "Isolated")"),
              AllOf(HasSubstr("pattern is missing"), HasSubstr("invert is missing")));
  EXPECT_THAT(
      refused(R"({"decoder": {"type": "Strip", "content": "ab", "start": 1.5, "stop": 0}})"),
      AllOf(HasSubstr("decoder.content must be one character"),
            HasSubstr("decoder.start must be a whole number")));
}

TEST(TokenizerJson, IdsOfAddedTokens) {
  EXPECT_THAT(refused(R"({"added_tokens": [{"id": 9, "content": "<s>", "special": true}]})"),
              HasSubstr("added_tokens[0].id is 9 of \"<s>\"; the next without a token is 6"));
  EXPECT_THAT(refused(R"({"added_tokens": [{"id": 9, "content": "a", "special": true}]})"),
              HasSubstr("the vocabulary has it as 0"));
  EXPECT_THAT(refused(R"({"added_tokens": [{"id": 0, "content": "a", "special": true},
                                           {"id": 0, "content": "a", "special": true}]})"),
              HasSubstr("added_tokens[1].content is \"a\", as another's is"));
  EXPECT_THAT(refused(R"({"added_tokens": [{"id": 0, "content": "", "special": true}]})"),
              HasSubstr("content is empty"));
  EXPECT_THAT(
      refused(
          R"({"post_processor": {"type": "BertProcessing", "sep": ["s", 6], "cls": ["c", 0]}})"),
      HasSubstr("post_processor puts in the id 6"));
}

TEST(TokenizerJson, Templates) {
  const auto of = [](const std::string& single, const std::string& tokens) {
    return refused(R"({"post_processor": {"type": "TemplateProcessing", "pair": [], "single": )" +
                   single + R"(, "special_tokens": )" + tokens + "}}");
  };
  EXPECT_THAT(of(R"([{"SpecialToken": {"id": "s", "type_id": 0}}])", "{}"),
              HasSubstr("single[0].SpecialToken.id is \"s\", which special_tokens lacks"));
  EXPECT_THAT(of(R"([{"Sequence": {"id": "B", "type_id": 0}}])", "{}"),
              HasSubstr("a single text is A"));
  EXPECT_THAT(of("[{}]", "{}"), HasSubstr("must be one of Sequence and SpecialToken"));
  EXPECT_THAT(of("[]", R"({"s": {"id": "s", "ids": [], "tokens": []}})"),
              HasSubstr("special_tokens.s.ids must be a list of ids"));
}

TEST(TokenizerJson, FaultsWithoutEndAreCounted) {
  nlohmann::json file = small_file();
  for (int i = 0; i < 100; ++i) file["model"]["merges"].push_back("x y");
  const std::string text =
      error_of<UsageError>([&] { parse_tokenizer_json(file.dump(), "small.json"); });
  EXPECT_THAT(text, AllOf(HasSubstr("model.merges[2] names \"x\""), HasSubstr("and 88 faults more"),
                          Not(HasSubstr("merges[50]"))));
}

TEST(TokenizerJson, JsonThatIsNone) {
  const std::string text = small_file().dump();
  EXPECT_THAT(error_of<Error>([&] { parse_tokenizer_json(text.substr(0, 100), "small.json"); }),
              HasSubstr("small.json is not JSON, at byte 101"));
  EXPECT_THAT(
      error_of<Error>([&] { parse_tokenizer_json("{\"version\": \"\xff\"}", "small.json"); }),
      HasSubstr("that is not UTF-8"));
  EXPECT_THAT(error_of<Error>([&] { parse_tokenizer_json(R"({"a": 1, "a": 2})", "small.json"); }),
              HasSubstr("has \"a\" twice in one object"));
}

// Every text that a file was cut to, or that has one byte else, is refused or understood.
TEST(TokenizerJson, NoTextCrashes) {
  const std::string text =
      small_file(R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true}})").dump();
  for (std::size_t at = 0; at < text.size(); ++at)
    for (const char byte : {'\0', '"', '1', '-', '\xff', '}'}) {
      std::string other = text;
      other[at] = byte;
      try {
        parse_tokenizer_json(other, "small.json")->encode("abc");
      } catch (const Error&) {  // refused
      }
    }
}

TEST(OpenTokenizer, AFileOrItsFolder) {
  const Folder folder;
  const fs::path file = folder.write("tokenizer.json", small_file().dump());
  EXPECT_EQ(make_tokenizer(file.parent_path().string())->encode("ab"), (Ids{3}));
  EXPECT_EQ(make_tokenizer(file.string())->encode("ab"), (Ids{3}));
  fs::remove(file);
  EXPECT_THAT(error_of<UsageError>([&] { make_tokenizer(file.parent_path().string()); }),
              HasSubstr("holds no tokenizer"));
  EXPECT_THAT(error_of<UsageError>([&] { make_tokenizer(file.string()); }),
              HasSubstr("there is no tokenizer '"));
}

TEST(OpenTokenizer, Gpt2sTwoFiles) {
  const std::string vocabulary =
      R"({"a": 0, "b": 1, "\u0120": 2, "\u0120a": 3, "<|endoftext|>": 4})";
  for (const auto& [first, second] :
       {std::pair{"vocab.json", "merges.txt"}, std::pair{"encoder.json", "vocab.bpe"}}) {
    const Folder folder;
    folder.write(first, vocabulary);
    folder.write(second, "#version: 0.2\r\n\u0120 a\r\n");
    const auto tokenizer = make_tokenizer((folder / "").string());
    EXPECT_EQ(tokenizer->encode("b a<|endoftext|>"), (Ids{1, 3, 4}));
    EXPECT_EQ(tokenizer->decode(Ids{1, 3, 4}, SpecialTokens::Without), "b a");
    folder.write(second, "#version: 0.2\na b\n");
    EXPECT_THAT(error_of<UsageError>([&] { make_tokenizer((folder / "").string()); }),
                HasSubstr(cat(second, ": line 2 names \"ab\"")));
  }
}

}  // namespace
}  // namespace headrace
