#include "headrace/model/hugging_face/gpt2.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

using testing::HasSubstr;

constexpr GptConfig kConfig{
    .layers = 2, .width = 32, .heads = 4, .context = 16, .vocabulary = 97, .tied = true};

TEST(Gpt2Naming, NamesEveryParameterOnce) {
  for (const bool tied : {true, false}) {
    GptConfig config = kConfig;
    config.tied = tied;
    const Naming naming = gpt2_naming(config);
    std::set<std::string> ours, theirs;
    for (const LayerSpec& layer : gpt(config))
      for (const ParameterSpec& parameter : layer.parameters) {
        ours.insert(parameter.name);
        EXPECT_EQ(naming.stored.at(parameter.name).shape, parameter.shape);
      }
    for (const auto& [name, stored] : naming.stored) theirs.insert(stored.name);
    EXPECT_EQ(naming.stored.size(), ours.size());
    EXPECT_EQ(theirs.size(), ours.size());
    EXPECT_EQ(theirs.contains("lm_head.weight"), !tied);
    EXPECT_EQ(naming.copies.contains("lm_head.weight"), tied);
  }
  const Naming naming = gpt2_naming(kConfig);
  EXPECT_EQ(naming.stored.at("blocks.1.attention.qkv.weight").name,
            "transformer.h.1.attn.c_attn.weight");
  EXPECT_TRUE(naming.stored.at("blocks.1.attention.qkv.weight").transposed);
  EXPECT_FALSE(naming.stored.at("embedding.weight").transposed);
  EXPECT_TRUE(naming.ignored.contains("transformer.h.1.attn.bias"));
  EXPECT_FALSE(naming.ignored.contains("transformer.h.2.attn.bias"));
}

TEST(Gpt2Config, IsReadAsItWasWritten) {
  for (const bool tied : {true, false}) {
    GptConfig config = kConfig;
    config.tied = tied;
    EXPECT_EQ(parse_gpt2_config(gpt2_config_json(config), "config.json"), config);
  }
}

TEST(Gpt2Config, WhatOurGptDoesNotDoIsRefusedByName) {
  const std::string good = gpt2_config_json(kConfig);
  const auto error = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    return error_of<Error>([&] { parse_gpt2_config(text, "config.json"); });
  };
  const std::vector<std::vector<std::string>> refused = {
      {"\"gpt2\"", "\"llama\"", "model_type is \"llama\"; only gpt2 is read"},
      {"gelu_new", "gelu", "activation_function is \"\\\"gelu\\\"\"; our GPT has GELU in its tanh"},
      {"\"n_inner\": null", "\"n_inner\": 100", "n_inner is \"100\""},
      {"\"n_ctx\": 16", "\"n_ctx\": 8", "n_ctx is \"8\""},
      {"1e-05", "1e-06", "layer_norm_epsilon is \"1e-06\""},
      {"\"scale_attn_weights\": true", "\"scale_attn_weights\": false", "scale_attn_weights"},
      {"idx\": false", "idx\": true", "scale_attn_by_inverse_layer_idx is \"true\""},
      {"upcast_attn\": false", "upcast_attn\": true", "reorder_and_upcast_attn is \"true\""},
      {"add_cross_attention\": false", "add_cross_attention\": true", "add_cross_attention"},
      {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", "tie_word_embeddings"},
      {"\"n_ctx\"", "\"new_kind_of_norm\": 1, \"n_ctx\"",
       "\"new_kind_of_norm\", which is not known"},
      {"\"n_layer\": 2", "\"n_layer\": 0", "n_layer must be a whole number, 1 or more"},
      {"\"n_layer\": 2", "\"n_layer\": 4294967298", "n_layer is 4294967298"},
      {"\"n_layer\": 2,", "", "lacks n_layer"},
      {"\"n_layer\": 2", "\"n_layer\": \"2\"", "n_layer must be a whole number"},
  };
  for (const std::vector<std::string>& each : refused)
    EXPECT_THAT(error(each[0], each[1]), HasSubstr(each[2]));
  EXPECT_EQ(error("\"n_inner\": null", "\"n_inner\": 128"), "");
  EXPECT_EQ(error("gelu_new", "gelu_pytorch_tanh"), "");
  // Of training by transformers, or of its other heads.
  EXPECT_EQ(error("\"attn_pdrop\": 0.0", "\"attn_pdrop\": 0.1, \"summary_type\": \"last\""), "");
  const std::string two = error_of<Error>([&] {
    parse_gpt2_config(
        R"({"model_type":"gpt2","n_layer":1,"n_embd":4,"n_head":1,"n_positions":4,"vocab_size":4,
            "activation_function":"relu","scale_attn_weights":false})",
        "config.json");
  });
  EXPECT_THAT(two, HasSubstr("2 faults"));
}

}  // namespace
}  // namespace headrace
