#include "headrace/tokenizer/model.h"

#include <array>
#include <memory>
#include <span>

#include "headrace/tokenizer/bpe.h"
#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/word_piece.h"

namespace headrace {

std::unique_ptr<Model> read_model(JsonElement& element) {
  constexpr std::array<ElementKind<Model>, 2> kKinds = {
      {{"BPE", read_bpe}, {"WordPiece", read_word_piece}}};
  // Files of old do not say: the only kind with merges.
  if (element.find("type") == nullptr && element.find("merges") != nullptr) {
    auto model = read_bpe(element);
    element.require_no_more();
    return model;
  }
  return read_kind(element, std::span<const ElementKind<Model>>(kKinds));
}

}  // namespace headrace
