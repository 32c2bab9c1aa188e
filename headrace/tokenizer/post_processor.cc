#include "headrace/tokenizer/post_processor.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/strict_json.h"
#include "headrace/tokenizer/json_element.h"

namespace headrace {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<std::int32_t>;

class ProcessorSequence : public PostProcessor {
 public:
  explicit ProcessorSequence(std::vector<std::unique_ptr<PostProcessor>> steps)
      : steps_(std::move(steps)) {}
  Ids apply(Ids ids) const override {
    for (const auto& step : steps_) ids = step->apply(std::move(ids));
    return ids;
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> steps_;
};

// Parts of ids; an empty one stands for the text.
class Template : public PostProcessor {
 public:
  explicit Template(std::vector<Ids> parts) : parts_(std::move(parts)) {}
  Ids apply(Ids ids) const override {
    Ids all;
    for (const Ids& part : parts_) {
      const Ids& next = part.empty() ? ids : part;
      all.insert(all.end(), next.begin(), next.end());
    }
    return all;
  }

 private:
  std::vector<Ids> parts_;
};

// ByteLevel: of where tokens lie in the text, which we do not tell.
class NoEffect : public PostProcessor {
 public:
  Ids apply(Ids ids) const override { return ids; }
};

std::int32_t read_id(const Json& json, const std::string& place, FileFaults& faults) {
  const auto most = static_cast<std::uint64_t>(INT32_MAX);
  if (!faults.check(json.is_number_unsigned() && json.get<std::uint64_t>() <= most, place,
                    " must be an id; it is ", excerpt(json.dump())))
    return 0;
  return json.get<std::int32_t>();
}

std::unique_ptr<PostProcessor> read_sequence(JsonElement& element);

std::unique_ptr<PostProcessor> read_byte_level(JsonElement& element) {
  for (const char* key : {"add_prefix_space", "trim_offsets", "use_regex"})
    element.boolean(key, true);
  return std::make_unique<NoEffect>();
}

// ["[SEP]", 102]
Ids read_token(JsonElement& element, const std::string& key) {
  const Json* json = element.find(key);
  const bool pair = json != nullptr && json->is_array() && json->size() == 2;
  if (!element.check(pair && (*json)[0].is_string(), key, "must be a token and its id")) return {0};
  return {read_id((*json)[1], element.place(key), element.faults())};
}

std::unique_ptr<PostProcessor> read_bert(JsonElement& element) {
  Ids sep = read_token(element, "sep");
  Ids cls = read_token(element, "cls");
  return std::make_unique<Template>(std::vector<Ids>{std::move(cls), {}, std::move(sep)});
}

std::unique_ptr<PostProcessor> read_roberta(JsonElement& element) {
  for (const char* key : {"add_prefix_space", "trim_offsets"}) element.boolean(key, true);
  return read_bert(element);
}

// {"[CLS]": {"id": "[CLS]", "ids": [101], "tokens": ["[CLS]"]}, …}
std::map<std::string, Ids> read_special_tokens(JsonElement& element) {
  std::map<std::string, Ids> tokens;
  const Json* json = element.find("special_tokens");
  if (!element.check(json != nullptr && json->is_object(), "special_tokens",
                     "must be tokens with their ids"))
    return tokens;
  for (const auto& [name, value] : json->items()) {
    JsonElement token(value, cat(element.place("special_tokens"), ".", name), element.faults());
    token.text("id");
    token.find("tokens");
    const Json* ids = token.find("ids");
    token.require_no_more();
    Ids& of_token = tokens[name];
    if (!token.check(ids != nullptr && ids->is_array() && !ids->empty(), "ids",
                     "must be a list of ids"))
      continue;
    for (const Json& id : *ids)
      of_token.push_back(read_id(id, token.place("ids"), element.faults()));
  }
  return tokens;
}

std::unique_ptr<PostProcessor> read_template(JsonElement& element) {
  const std::map<std::string, Ids> tokens = read_special_tokens(element);
  std::vector<Ids> parts;
  for (JsonElement& part : element.children("single")) {
    auto sequence = part.child("Sequence");
    auto special = part.child("SpecialToken");
    part.require_no_more();
    if (!part.check(sequence.has_value() != special.has_value(), "",
                    "must be one of Sequence and SpecialToken"))
      continue;
    JsonElement& one = sequence.has_value() ? *sequence : *special;
    one.find("type_id");
    const std::string id = one.text("id");
    one.require_no_more();
    if (sequence.has_value()) {
      one.check(id == "A", "id", cat("is ", excerpt(id), "; a single text is A"));
      parts.emplace_back();
    } else if (one.check(tokens.contains(id), "id",
                         cat("is ", excerpt(id), ", which special_tokens lacks"))) {
      parts.push_back(tokens.at(id));
    }
  }
  element.find("pair");
  return std::make_unique<Template>(std::move(parts));
}

constexpr std::array<ElementKind<PostProcessor>, 5> kKinds = {{
    {"Sequence", read_sequence},
    {"ByteLevel", read_byte_level},
    {"TemplateProcessing", read_template},
    {"BertProcessing", read_bert},
    {"RobertaProcessing", read_roberta},
}};

std::unique_ptr<PostProcessor> read_sequence(JsonElement& element) {
  std::vector<std::unique_ptr<PostProcessor>> steps;
  for (JsonElement& step : element.children("processors"))
    steps.push_back(read_post_processor(step));
  return std::make_unique<ProcessorSequence>(std::move(steps));
}

}  // namespace

std::unique_ptr<PostProcessor> read_post_processor(JsonElement& element) {
  return read_kind(element, std::span<const ElementKind<PostProcessor>>(kKinds));
}

}  // namespace headrace
