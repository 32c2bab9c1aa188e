// The keys of [model]: what a family leaves open, and a folder that says the sizes.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/model/hugging_face/hugging_face.h"
#include "headrace/train/config/config.h"
#include "headrace/train/resume.h"
#include "tests/data/folder.h"
#include "tests/train/config/small.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string fault_of(const std::vector<std::string>& settings) {
  return error_of<UsageError>([&] {
    Config config = parse_config(kSmall, "a.toml", settings);
    resolve(config);
  });
}

TEST(ModelKeys, WhatAFamilyHasNotIsRefused) {
  EXPECT_EQ(fault_of({"model.family=llama", "model.kv_heads=2", "model.rope_theta=500000"}), "");
  EXPECT_THAT(fault_of({"model.kv_heads=2"}),
              HasSubstr("model.kv_heads is for llama, mistral, qwen2 and qwen3; gpt has none"));
  EXPECT_THAT(
      fault_of({"model.family=mistral", "model.attention_bias=true", "model.mlp_bias=true"}),
      AllOf(HasSubstr("model.attention_bias is for llama and qwen3"),
            HasSubstr("model.mlp_bias is for llama; mistral has none")));
  EXPECT_THAT(fault_of({"model.family=llama", "model.kv_heads=4"}),
              HasSubstr("model.heads 6 is not a multiple of kv_heads 4"));
  EXPECT_THAT(fault_of({"model.family=llama", "model.head_width=15"}),
              HasSubstr("model.head_width is 15, and rotary positions turn its numbers in pairs"));
  EXPECT_THAT(fault_of({"model.family=llama", "model.rope_scaling=llama3", "model.rope_factor=8"}),
              HasSubstr("needs rope_original"));
  EXPECT_THAT(fault_of({"model.family=llama", "model.rope_factor=8"}),
              HasSubstr("numbers of a rope_scaling, and there is none"));
  EXPECT_THAT(fault_of({"model.family=lama"}), HasSubstr("did you mean \"llama\"?"));
}

TEST(DataKeys, ATokenizerThatIsNoneOrLacksTheEndIsRefused) {
  EXPECT_THAT(fault_of({"data.tokenizer=no/such/folder"}), HasSubstr("no/such/folder"));
  EXPECT_THAT(fault_of({"data.end_token=<|endoftext|>"}),
              HasSubstr("data.end_token is '<|endoftext|>', and the byte tokenizer has no such"));
}

class ModelFrom : public testing::Test {
 protected:
  ModelFrom() { folder_.write("config.json", config_json(theirs_)); }
  Config read(std::vector<std::string> settings) const {
    settings.push_back("model.from=" + (folder_ / "").string());
    return parse_config(kSmall, "a.toml", settings);
  }
  const TransformerConfig theirs_{.layers = 3,
                                  .width = 24,
                                  .heads = 4,
                                  .context = 64,
                                  .vocabulary = 300,
                                  .tied = false,
                                  .family = Family::Qwen3,
                                  .kv_heads = 2,
                                  .head_width = 8,
                                  .rope_theta = 1e6};
  Folder folder_;
};

TEST_F(ModelFrom, SizesThatAreNotGivenAreTheFolders) {
  const Config config = read({"model.dropout=0.1", "model.context=32"});
  TransformerConfig expected = filled(theirs_);
  expected.dropout = 0.1;
  expected.context = 32;
  EXPECT_EQ(config.model.transformer, expected);
  require_same_model(config);  // rotary positions have no parameters
  const Config again = parse_config(to_toml(config), "b.toml", {});
  EXPECT_EQ(again.model.transformer, expected);
}

TEST_F(ModelFrom, SizesThatAreGivenMustBeTheFolders) {
  const Config config = read({"model.layers=4", "model.context=128"});
  EXPECT_THAT(error_of<UsageError>([&] { require_same_model(config); }),
              AllOf(HasSubstr("model.layers is 4, and that of"),
                    HasSubstr("model.context is 128, and that of")));
}

TEST_F(ModelFrom, AnotherFamilyThanTheFoldersIsRefused) {
  EXPECT_THAT(error_of<UsageError>([&] { read({"model.family=gpt"}); }),
              AllOf(HasSubstr("model.family is \"gpt\", and that of"), HasSubstr("is \"qwen3\"")));
}

TEST_F(ModelFrom, AConfigThatIsNotUnderstoodIsRefused) {
  folder_.write("config.json", "{\"model_type\": \"mamba\"}");
  EXPECT_THAT(error_of<UsageError>([&] { read({}); }),
              HasSubstr("model_type is \"mamba\"; known: gpt2, llama"));
}

}  // namespace
}  // namespace headrace
