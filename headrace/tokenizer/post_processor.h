// What a tokenizer puts around the ids of a text: [CLS] … [SEP], <s> ….
//
//   auto processor = read_post_processor(element);   // {"type": "TemplateProcessing", …}
//   processor->apply({7, 8}) == std::vector<std::int32_t>{1, 7, 8};
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "headrace/tokenizer/json_element.h"

namespace headrace {

class PostProcessor {
 public:
  PostProcessor() = default;
  PostProcessor(const PostProcessor&) = delete;
  PostProcessor& operator=(const PostProcessor&) = delete;
  virtual ~PostProcessor() = default;
  virtual std::vector<std::int32_t> apply(std::vector<std::int32_t> ids) const = 0;
};

// Null where the element's faults say why. Of a template only `single` is used: what stands around a
// pair of texts is not ours.
std::unique_ptr<PostProcessor> read_post_processor(JsonElement& element);

}  // namespace headrace
