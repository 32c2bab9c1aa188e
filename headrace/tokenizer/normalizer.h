// What a tokenizer does to a text before anything else: Unicode's normal forms, case, accents,
// replacements.
//
//   auto normalizer = read_normalizer(element);   // {"type": "NFC"}
//   normalizer->normalize("e\u0301") == "\u00e9";
//
// Texts are valid UTF-8, before and after.
#pragma once

#include <memory>
#include <string>

#include "headrace/tokenizer/json_element.h"

namespace headrace {

class Normalizer {
 public:
  Normalizer() = default;
  Normalizer(const Normalizer&) = delete;
  Normalizer& operator=(const Normalizer&) = delete;
  virtual ~Normalizer() = default;
  virtual std::string normalize(std::string text) const = 0;
};

// Null where the element's faults say why.
std::unique_ptr<Normalizer> read_normalizer(JsonElement& element);

// BERT's: control characters out, a space around each Chinese character, accents off, lower case.
std::unique_ptr<Normalizer> read_bert_normalizer(JsonElement& element);

}  // namespace headrace
