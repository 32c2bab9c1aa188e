#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/normalizer.h"
#include "headrace/tokenizer/regex.h"
#include "headrace/tokenizer/unicode.h"

namespace headrace {
namespace {

// BERT's own blocks of ideographs, one of which begins 256 later than Unicode's.
bool is_chinese(char32_t c) {
  constexpr std::array<std::pair<char32_t, char32_t>, 8> kBlocks = {{{0x4e00, 0x9fff},
                                                                     {0x3400, 0x4dbf},
                                                                     {0x20000, 0x2a6df},
                                                                     {0x2a700, 0x2b73f},
                                                                     {0x2b740, 0x2b81f},
                                                                     {0x2b920, 0x2ceaf},
                                                                     {0xf900, 0xfaff},
                                                                     {0x2f800, 0x2fa1f}}};
  return std::ranges::any_of(
      kBlocks, [&](const auto& block) { return c >= block.first && c <= block.second; });
}

bool is_dropped(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  return c == 0xfffd || is_control(c);
}

template <class Each>
void for_each_code_point(const std::string& text, const Each& each) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = code_point(text, at);
    each(c.value);
    at += c.size;
  }
}

std::string clean(const std::string& text) {
  std::string cleaned;
  cleaned.reserve(text.size());
  for_each_code_point(text, [&](char32_t c) {
    if (!is_dropped(c)) append_utf8(cleaned, is_white_space(c) ? U' ' : c);
  });
  return cleaned;
}

std::string space_chinese(const std::string& text) {
  std::string spaced;
  spaced.reserve(text.size());
  for_each_code_point(text, [&](char32_t c) {
    const bool chinese = is_chinese(c);
    if (chinese) spaced.push_back(' ');
    append_utf8(spaced, c);
    if (chinese) spaced.push_back(' ');
  });
  return spaced;
}

std::string without_accents(const std::string& text) {
  std::string plain;
  plain.reserve(text.size());
  for_each_code_point(normal_form(text, NormalForm::Nfd), [&](char32_t c) {
    if (!is_nonspacing_mark(c)) append_utf8(plain, c);
  });
  return plain;
}

struct Steps {
  bool clean_text;
  bool handle_chinese_chars;
  bool strip_accents;
  bool lowercase;
};

class BertNormalizer : public Normalizer {
 public:
  explicit BertNormalizer(Steps steps) : steps_(steps) {}
  std::string normalize(std::string text) const override {
    if (steps_.clean_text) text = clean(text);
    if (steps_.handle_chinese_chars) text = space_chinese(text);
    if (steps_.strip_accents) text = without_accents(text);
    if (steps_.lowercase) text = lower_case(text);
    return text;
  }

 private:
  Steps steps_;
};

}  // namespace

std::unique_ptr<Normalizer> read_bert_normalizer(JsonElement& element) {
  Steps steps{};
  steps.clean_text = element.boolean("clean_text");
  steps.handle_chinese_chars = element.boolean("handle_chinese_chars");
  steps.lowercase = element.boolean("lowercase");
  steps.strip_accents = element.boolean("strip_accents", steps.lowercase);  // null: as lowercase
  return std::make_unique<BertNormalizer>(steps);
}

}  // namespace headrace
