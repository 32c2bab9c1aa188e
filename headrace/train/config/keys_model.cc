#include <string>
#include <variant>
#include <vector>

#include "headrace/train/config/rules.h"
#include "headrace/train/config/sections.h"

namespace headrace {

using namespace rules;

namespace {

// The name of one; its sizes are the next keys'.
struct Family {
  Choice names{family_names()};

  std::string expected() const { return names.expected(); }
  bool read(const Value& value, ModelFamily& out) const {
    std::string name;
    if (!names.read(value, name)) return false;
    if (name != name_of(out)) out = *family_of(name);
    return true;
  }
  Value write(const ModelFamily& family) const { return {name_of(family)}; }
  std::string hint(const Value& value) const { return names.hint(value); }
};

}  // namespace

void add_model_keys(std::vector<Key>& table) {
  Rows any(table, "model", [](auto& c) -> auto& { return c.model; });
  any("family", &ModelConfig::family, Family{}, "what kind of model it is");

  Rows model(table, "model", [](auto& c) -> auto& { return std::get<GptConfig>(c.model.family); });
  using M = GptConfig;
  model("layers", &M::layers, Whole{1}, "transformer blocks");
  model("width", &M::width, Whole{1}, "of the residual stream; a multiple of `heads`");
  model("heads", &M::heads, Whole{1}, "attention heads");
  model("context", &M::context, Whole{1}, "tokens a sequence");
  model("vocabulary", &M::vocabulary, Whole{1}, "ids; at least the tokenizer's (byte: 256)");
  model("tied", &M::tied, Flag{}, "the head's matrix is the embedding's");
  model("dropout", &M::dropout, Number{.high = 1}, "share of activations dropped in training");

  any("from", &ModelConfig::from, Text{},
      "folder with the weights to begin with: a checkpoint, or a GPT-2 of Hugging Face of these "
      "sizes");
}

}  // namespace headrace
