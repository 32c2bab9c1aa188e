// A text cut into pieces that no token reaches across.
//
//   auto cut = read_pre_tokenizer(element);   // {"type": "WhitespaceSplit"}
//   cut->split({"to be", true}, [&](Piece piece) { … });   // "to", "be"
//
// Pieces are valid UTF-8 and never empty; one is to be used within the call that brings it. Throws
// Error where a pattern gives up (regex.h).
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "headrace/tokenizer/json_element.h"

namespace headrace {

struct Piece {
  std::string_view text;
  bool first;  // begins where the whole text does
};
// Called for each piece in order. Given by std::ref, which costs no memory.
using PieceSink = std::function<void(const Piece&)>;

class PreTokenizer {
 public:
  PreTokenizer() = default;
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;
  virtual ~PreTokenizer() = default;
  virtual void split(const Piece& piece, const PieceSink& sink) const = 0;
};

// Null where the element's faults say why.
std::unique_ptr<PreTokenizer> read_pre_tokenizer(JsonElement& element);

// The kinds that change a piece as they cut it.
std::unique_ptr<PreTokenizer> read_byte_level(JsonElement& element);
std::unique_ptr<PreTokenizer> read_metaspace(JsonElement& element);

// A Metaspace's `prepend_scheme`, of a decoder too. Files of old say `add_prefix_space`.
enum class PrependScheme { Always, First, Never };
PrependScheme read_prepend_scheme(JsonElement& element);

}  // namespace headrace
