#include "headrace/model/hugging_face/hugging_face.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/model/transformer.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

using testing::HasSubstr;

const TransformerConfig kConfig{
    .layers = 2, .width = 32, .heads = 4, .context = 16, .vocabulary = 97, .tied = true};

TEST(Gpt2Naming, NamesEveryParameterOnce) {
  for (const bool tied : {true, false}) {
    TransformerConfig config = kConfig;
    config.tied = tied;
    const Naming naming = naming_of(config);
    std::set<std::string> ours, theirs;
    for (const LayerSpec& layer : transformer(config))
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
  const Naming naming = naming_of(kConfig);
  EXPECT_EQ(naming.stored.at("blocks.1.attention.qkv.weight").name,
            "transformer.h.1.attn.c_attn.weight");
  EXPECT_TRUE(naming.stored.at("blocks.1.attention.qkv.weight").transposed);
  EXPECT_FALSE(naming.stored.at("embedding.weight").transposed);
  EXPECT_TRUE(naming.ignored.contains("transformer.h.1.attn.bias"));
  EXPECT_FALSE(naming.ignored.contains("transformer.h.2.attn.bias"));
}

TEST(Gpt2Config, IsReadAsItWasWritten) {
  for (const bool tied : {true, false}) {
    TransformerConfig config = kConfig;
    config.tied = tied;
    EXPECT_EQ(parse_config_json(config_json(config), "config.json"), filled(config));
  }
}

TEST(Gpt2Config, WhatOurGptDoesNotDoIsRefusedByName) {
  const std::string good = config_json(kConfig);
  const auto error = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    return error_of<Error>([&] { parse_config_json(text, "config.json"); });
  };
  const std::vector<std::vector<std::string>> refused = {
      {"\"gpt2\"", "\"gpt3\"", "model_type is \"gpt3\"; known: gpt2, llama"},
      {"gelu_new", "tanh", "activation_function is \"\\\"tanh\\\"\"; known: gelu_new, gelu"},
      {"\"n_inner\": 128", "\"n_inner\": 0", "n_inner must be a whole number, 1 or more"},
      {"\"n_ctx\": 16", "\"n_ctx\": 8", "n_ctx is \"8\""},
      {"1e-05", "-1e-06", "layer_norm_epsilon is \"-1e-06\"; it must be a number above 0"},
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
  EXPECT_EQ(error("\"n_inner\": 128", "\"n_inner\": null"), "");
  EXPECT_EQ(error("gelu_new", "gelu_pytorch_tanh"), "");
  // Of training by transformers, or of its other heads.
  EXPECT_EQ(error("\"attn_pdrop\": 0.0", "\"attn_pdrop\": 0.1, \"summary_type\": \"last\""), "");
  const std::string two = error_of<Error>([&] {
    parse_config_json(
        R"({"model_type":"gpt2","n_layer":1,"n_embd":4,"n_head":1,"n_positions":4,"vocab_size":4,
            "activation_function":"tanh","scale_attn_weights":false})",
        "config.json");
  });
  EXPECT_THAT(two, HasSubstr("2 faults"));
}

const TransformerConfig kLlama{.layers = 2,
                               .width = 32,
                               .heads = 4,
                               .context = 16,
                               .vocabulary = 97,
                               .tied = false,
                               .family = Family::Llama,
                               .kv_heads = 2,
                               .rope_theta = 500000,
                               .rope_scaling = "llama3",
                               .rope_factor = 8,
                               .rope_low = 1,
                               .rope_high = 4,
                               .rope_original = 8};

TEST(LlamaNaming, NamesEveryParameterOnce) {
  for (const char* family : {"llama", "mistral", "qwen2", "qwen3"}) {
    TransformerConfig config = kLlama;
    config.family = *family_of(family);
    const Naming naming = naming_of(config);
    std::set<std::string> ours, theirs;
    for (const LayerSpec& layer : transformer(config))
      for (const ParameterSpec& parameter : layer.parameters) ours.insert(parameter.name);
    for (const auto& [name, stored] : naming.stored) theirs.insert(stored.name);
    EXPECT_EQ(theirs.size(), ours.size());
    EXPECT_EQ(naming.stored.at("blocks.1.attention.q.weight").name,
              "model.layers.1.self_attn.q_proj.weight");
    EXPECT_EQ(theirs.contains("model.layers.0.self_attn.k_proj.bias"),
              config.family == Family::Qwen2);
    EXPECT_EQ(theirs.contains("model.layers.0.self_attn.q_norm.weight"),
              config.family == Family::Qwen3);
  }
}

TEST(LlamaConfig, IsReadAsItWasWritten) {
  for (const char* family : {"llama", "mistral", "qwen2", "qwen3"})
    for (const char* scaling : {"", "linear", "llama3"}) {
      TransformerConfig config = kLlama;
      config.family = *family_of(family);
      config.rope_scaling = scaling;
      if (config.rope_scaling != "llama3")
        config.rope_low = config.rope_high = config.rope_original = 0;
      if (config.rope_scaling.empty()) config.rope_factor = 0;
      config.attention_bias = config.family == Family::Qwen3;
      EXPECT_EQ(parse_config_json(config_json(config), "config.json"), filled(config)) << family;
    }
}

TEST(LlamaConfig, WhatIsNotDoneHereIsRefusedByName) {
  const auto error = [&](Family family, const std::string& from, const std::string& to) {
    TransformerConfig config = kLlama;
    config.family = family;
    std::string text = config_json(config);
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    return error_of<Error>([&] { parse_config_json(text, "config.json"); });
  };
  const auto window = [&](Family family, const std::string& fields) {
    TransformerConfig config = kLlama;
    config.family = family;
    nlohmann::json json = nlohmann::json::parse(config_json(config));
    json.erase("sliding_window");
    json.erase("use_sliding_window");
    json.update(nlohmann::json::parse(fields));
    return parse_config_json(json.dump(), "config.json").window;
  };
  EXPECT_EQ(window(Family::Mistral, R"({"sliding_window": 8})"), 8);
  EXPECT_EQ(window(Family::Mistral, R"({"sliding_window": null})"), 0);
  EXPECT_EQ(window(Family::Mistral, "{}"), 4096);
  EXPECT_EQ(window(Family::Qwen2, R"({"sliding_window": 8, "use_sliding_window": true})"), 8);
  EXPECT_EQ(window(Family::Qwen3, R"({"use_sliding_window": true})"), 4096);
  EXPECT_EQ(window(Family::Qwen2, R"({"sliding_window": 8, "use_sliding_window": false})"), 0);
  TransformerConfig short_window = kLlama;
  short_window.family = Family::Mistral;
  short_window.window = 8;
  EXPECT_THAT(error_of<UsageError>([&] { transformer_layers(short_window); }),
              HasSubstr("context is 16, longer than the sliding window of 8 tokens"));
  short_window.context = 8;
  EXPECT_EQ(error_of<UsageError>([&] { transformer_layers(short_window); }), "");
  EXPECT_THAT(error(Family::Llama, "\"rope_type\": \"llama3\"",
                    "\"type\": \"linear\", \"rope_theta\": \"500\", \"rope_type\": \"llama3\""),
              HasSubstr("rope_scaling.rope_theta is \"500\"; it must be a number above 0"));
  EXPECT_EQ(error(Family::Llama, "\"rope_type\": \"llama3\"",
                  "\"type\": \"yarn\", \"rope_type\": \"llama3\""),
            "")
      << "the newer name counts";
  EXPECT_THAT(error(Family::Llama, "\"rope_scaling\"",
                    "\"rope_parameters\": {\"rope_type\": \"default\"}, \"rope_scaling\""),
              HasSubstr("rope_scaling and rope_parameters are both given"));
  EXPECT_THAT(error(Family::Llama, "\"factor\": 8.0", "\"factor\": \"8\""),
              HasSubstr("rope_scaling.factor is \"8\"; it must be a number above 0"));
  EXPECT_EQ(error(Family::Llama, "\"hidden_act\"",
                  "\"use_mrope\": false, \"temperature\": 0.7, \"hidden_act\""),
            "");
  EXPECT_THAT(error(Family::Llama, "\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\""),
              HasSubstr("rope_scaling.rope_type is \"yarn\"; known: default, linear and llama3"));
  EXPECT_THAT(error(Family::Llama, "\"factor\": 8.0", "\"factor\": 8.0, \"beta\": 2"),
              HasSubstr("rope_scaling.beta is \"2\", which is not known"));
  EXPECT_THAT(error(Family::Llama, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"),
              HasSubstr("heads 4 is not a multiple of kv_heads 3"));
  EXPECT_THAT(
      error(Family::Qwen3, "\"hidden_act\"", "\"partial_rotary_factor\": 0.5, \"hidden_act\""),
      HasSubstr("partial_rotary_factor is \"0.5\"; here is all of a head turned"));
  EXPECT_THAT(error(Family::Llama, "\"hidden_act\"", "\"num_experts\": 8, \"hidden_act\""),
              HasSubstr("\"num_experts\", which is not known"));
}

TEST(ConfigJson, KeepsTheSpecialTokensOfTheModelThatARunBeganWith) {
  const auto written = nlohmann::json::parse(
      config_json(kLlama, R"({"eos_token_id": [1, 2], "bos_token_id": 7, "hidden_size": 8})"));
  EXPECT_EQ(written.at("eos_token_id"), (nlohmann::json{1, 2}));
  EXPECT_EQ(written.at("bos_token_id"), 7);
  EXPECT_EQ(written.at("hidden_size"), kLlama.width);
}

}  // namespace
}  // namespace headrace
