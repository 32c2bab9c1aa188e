// Small elements and files of tokenizer.json, and what is said of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/tokenizer_json.h"
#include "tests/data/folder.h"

namespace headrace {

using Ids = std::vector<std::int32_t>;

// An element by its reader; throws what is wrong with it.
template <class Part>
std::unique_ptr<Part> read_small(std::unique_ptr<Part> (*read)(JsonElement&),
                                 const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  FileFaults faults("small.json");
  JsonElement element(json, "it", faults);
  auto part = read(element);
  faults.require_none();
  return part;
}

// BPE of a few letters; `fields` are merged into the file.
inline nlohmann::json small_file(const std::string& fields = "{}") {
  nlohmann::json file = nlohmann::json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "unk_token": null, "merges": ["a b", "ab c"],
              "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, " ": 5}}})");
  file.merge_patch(nlohmann::json::parse(fields));
  return file;
}

inline std::unique_ptr<Tokenizer> small_tokenizer(const std::string& fields = "{}") {
  return parse_tokenizer_json(small_file(fields).dump(), "small.json");
}

}  // namespace headrace
