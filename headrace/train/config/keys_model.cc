#include <vector>

#include "headrace/train/config/rules.h"
#include "headrace/train/config/sections.h"

namespace headrace {

using namespace rules;

void add_model_keys(std::vector<Key>& table) {
  Rows model(table, "model", [](auto& c) -> auto& { return c.model.gpt; });
  using M = GptConfig;
  model("layers", &M::layers, Whole{1}, "transformer blocks");
  model("width", &M::width, Whole{1}, "of the residual stream; a multiple of `heads`");
  model("heads", &M::heads, Whole{1}, "attention heads");
  model("context", &M::context, Whole{1}, "tokens a sequence");
  model("vocabulary", &M::vocabulary, Whole{1}, "ids; at least the tokenizer's (byte: 256)");
  model("tied", &M::tied, Flag{}, "the head's matrix is the embedding's");
  model("dropout", &M::dropout, Number{.high = 1}, "share of activations dropped in training");

  Rows any(table, "model", [](auto& c) -> auto& { return c.model; });
  any("from", &ModelConfig::from, Text{},
      "folder with the weights to begin with: a checkpoint, or a GPT-2 of Hugging Face of these "
      "sizes");
}

}  // namespace headrace
