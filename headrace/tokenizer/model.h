// How a piece of text becomes tokens of a vocabulary.
//
//   const std::unique_ptr<Model> model = read_model(element);   // {"type": "BPE", "vocab": …}
//   WordCache cache;
//   model->encode("race", cache, ids);   // appends
//
// Throws Error where a character has no token and the vocabulary no token for such.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/vocabulary.h"
#include "headrace/tokenizer/word_cache.h"

namespace headrace {

class Model {
 public:
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  virtual ~Model() = default;
  virtual void encode(std::string_view piece,
                      WordCache& cache,
                      std::vector<std::int32_t>& ids) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
};

// Null where the element's faults say why.
std::unique_ptr<Model> read_model(JsonElement& element);

}  // namespace headrace
