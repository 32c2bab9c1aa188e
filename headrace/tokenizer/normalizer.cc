#include "headrace/tokenizer/normalizer.h"

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/tokenizer/byte_level.h"
#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/regex.h"
#include "headrace/tokenizer/unicode.h"

namespace headrace {
namespace {

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> steps)
      : steps_(std::move(steps)) {}
  std::string normalize(std::string text) const override {
    for (const auto& step : steps_) text = step->normalize(std::move(text));
    return text;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

template <NormalForm Form>
class InNormalForm : public Normalizer {
 public:
  std::string normalize(std::string text) const override { return normal_form(text, Form); }
};

class Lowercase : public Normalizer {
 public:
  std::string normalize(std::string text) const override { return lower_case(text); }
};

// Of what is decomposed already: a letter with its accent in one code point stays.
class StripAccents : public Normalizer {
 public:
  std::string normalize(std::string text) const override {
    std::string kept;
    for_each_segment_of(is_mark, text, [&](std::size_t begin, std::size_t end, bool mark) {
      if (!mark) kept.append(text, begin, end - begin);
    });
    return kept;
  }
};

class StripSpace : public Normalizer {
 public:
  StripSpace(bool left, bool right) : left_(left), right_(right) {}
  std::string normalize(std::string text) const override {
    std::string_view kept = text;
    while (left_ && !kept.empty() && is_white_space(code_point(kept, 0).value))
      kept.remove_prefix(code_point(kept, 0).size);
    while (right_ && !kept.empty() && is_white_space(last_code_point(kept).value))
      kept.remove_suffix(last_code_point(kept).size);
    return std::string(kept);
  }

 private:
  bool left_;
  bool right_;
};

class PrependText : public Normalizer {
 public:
  explicit PrependText(std::string what) : what_(std::move(what)) {}
  std::string normalize(std::string text) const override {
    return text.empty() ? text : what_ + text;
  }

 private:
  std::string what_;
};

class ReplacePattern : public Normalizer {
 public:
  ReplacePattern(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string normalize(std::string text) const override {
    std::string replaced;
    replaced.reserve(text.size());
    for_each_segment(pattern_, text, [&](std::size_t begin, std::size_t end, bool match) {
      replaced +=
          match ? std::string_view(content_) : std::string_view(text).substr(begin, end - begin);
    });
    return replaced;
  }

 private:
  Regex pattern_;
  std::string content_;
};

class InByteLevel : public Normalizer {
 public:
  std::string normalize(std::string text) const override { return to_byte_level(text); }
};

template <class Kind>
std::unique_ptr<Normalizer> plain(JsonElement& /*element*/) {
  return std::make_unique<Kind>();
}

std::unique_ptr<Normalizer> read_sequence(JsonElement& element) {
  std::vector<std::unique_ptr<Normalizer>> steps;
  for (JsonElement& step : element.children("normalizers")) steps.push_back(read_normalizer(step));
  return std::make_unique<NormalizerSequence>(std::move(steps));
}

std::unique_ptr<Normalizer> read_strip(JsonElement& element) {
  const bool left = element.boolean("strip_left");
  const bool right = element.boolean("strip_right");
  return std::make_unique<StripSpace>(left, right);
}

std::unique_ptr<Normalizer> read_prepend(JsonElement& element) {
  return std::make_unique<PrependText>(element.text("prepend"));
}

std::unique_ptr<Normalizer> read_replace(JsonElement& element) {
  std::optional<Regex> pattern = element.pattern("pattern");
  std::string content = element.text("content");
  if (!pattern.has_value()) return nullptr;
  return std::make_unique<ReplacePattern>(std::move(*pattern), std::move(content));
}

constexpr std::array<ElementKind<Normalizer>, 12> kKinds = {{
    {"Sequence", read_sequence},
    {"NFC", plain<InNormalForm<NormalForm::Nfc>>},
    {"NFD", plain<InNormalForm<NormalForm::Nfd>>},
    {"NFKC", plain<InNormalForm<NormalForm::Nfkc>>},
    {"NFKD", plain<InNormalForm<NormalForm::Nfkd>>},
    {"Lowercase", plain<Lowercase>},
    {"StripAccents", plain<StripAccents>},
    {"Strip", read_strip},
    {"Prepend", read_prepend},
    {"Replace", read_replace},
    {"ByteLevel", plain<InByteLevel>},
    {"BertNormalizer", read_bert_normalizer},
}};

}  // namespace

std::unique_ptr<Normalizer> read_normalizer(JsonElement& element) {
  return read_kind(element, std::span<const ElementKind<Normalizer>>(kKinds));
}

}  // namespace headrace
