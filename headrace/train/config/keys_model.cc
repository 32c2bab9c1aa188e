#include <string>
#include <vector>

#include "headrace/train/config/rules.h"
#include "headrace/train/config/sections.h"

namespace headrace {

using namespace rules;

namespace {

struct FamilyRule {
  Choice names{family_names()};

  std::string expected() const { return names.expected(); }
  bool read(const Value& value, Family& out) const {
    std::string name;
    if (!names.read(value, name)) return false;
    out = *family_of(name);
    return true;
  }
  Value write(Family family) const { return {name_of(family)}; }
  std::string hint(const Value& value) const { return names.hint(value); }
};

}  // namespace

void add_model_keys(std::vector<Key>& table) {
  Rows model(table, "model", [](auto& c) -> auto& { return c.model.transformer; });
  using M = TransformerConfig;
  model("family", &M::family, FamilyRule{}, "what kind of model it is");
  model("layers", &M::layers, Whole{1}, "transformer blocks");
  model("width", &M::width, Whole{1}, "of the residual stream");
  model("heads", &M::heads, Whole{1}, "attention heads");
  model("kv_heads", &M::kv_heads, Whole{1},
        "heads of keys and values, which `heads` share evenly; by default as many as `heads`");
  model("head_width", &M::head_width, Whole{1},
        "numbers a head; by default `width` / `heads`, which must be whole");
  model("inner", &M::inner, Whole{1},
        "width inside the MLP; by default 4 · `width`, of a gated one 8/3 of it, to the next "
        "multiple of 32");
  model("context", &M::context, Whole{1}, "tokens a sequence");
  model("vocabulary", &M::vocabulary, Whole{1}, "ids; at least the tokenizer's (byte: 256)");
  model("tied", &M::tied, Flag{}, "the head's matrix is the embedding's");
  model("dropout", &M::dropout, Number{.high = 1}, "share of activations dropped in training");
  model("norm_epsilon", &M::norm_epsilon, Number{.above = true},
        "added to variances; by default 1e-5 in gpt, else 1e-6");
  model("activation", &M::activation, Choice{{"gelu_tanh", "gelu", "relu", "silu"}},
        "of the MLP; by default gelu_tanh in gpt, else silu");
  model("attention_bias", &M::attention_bias, Flag{}, "biases in attention (llama, qwen3)");
  model("mlp_bias", &M::mlp_bias, Flag{}, "biases in the MLP (llama)");
  model("rope_theta", &M::rope_theta, Number{.above = true},
        "base of the rotary positions' frequencies; by default 10000");
  model("rope_scaling", &M::rope_scaling, Choice{{"linear", "llama3"}},
        "how the frequencies are made slower for a longer context; by default not");
  model("rope_factor", &M::rope_factor, Number{.above = true},
        "how much slower, of a `rope_scaling`");
  model("rope_low", &M::rope_low, Number{.above = true},
        "of llama3: turns in `rope_original` tokens below which frequencies are made slower");
  model("rope_high", &M::rope_high, Number{.above = true}, "and above which they are not");
  model("rope_original", &M::rope_original, Whole{1}, "of llama3: the context before");

  Rows any(table, "model", [](auto& c) -> auto& { return c.model; });
  any("from", &ModelConfig::from, Text{},
      "folder with the weights to begin with: a checkpoint, or a model of Hugging Face; keys above "
      "that are not given are as its config.json says");
}

}  // namespace headrace
