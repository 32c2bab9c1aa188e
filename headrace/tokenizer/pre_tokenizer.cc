#include "headrace/tokenizer/pre_tokenizer.h"

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/tokenizer/behavior.h"
#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/regex.h"
#include "headrace/tokenizer/regex_syntax.h"
#include "headrace/tokenizer/unicode.h"

namespace headrace {
namespace {

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> steps)
      : steps_(std::move(steps)) {}
  void split(const Piece& piece, const PieceSink& sink) const override { from(0, piece, sink); }

 private:
  // Each piece goes through all steps before the next is cut, so that none has to be stored.
  void from(std::size_t step, const Piece& piece, const PieceSink& sink) const {
    if (step == steps_.size()) return sink(piece);
    const auto next = [&](const Piece& part) { from(step + 1, part, sink); };
    steps_[step]->split(piece, std::ref(next));
  }

  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

class SplitByPattern : public PreTokenizer {
 public:
  SplitByPattern(Regex pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void split(const Piece& piece, const PieceSink& sink) const override {
    Cutter cutter(behavior_, piece, sink);
    for_each_segment(pattern_, piece.text, [&](std::size_t begin, std::size_t end, bool match) {
      cutter.segment(begin, end, match != invert_);
    });
    cutter.finish();
  }

 private:
  Regex pattern_;
  Behavior behavior_;
  bool invert_;
};

class SplitByCharacter : public PreTokenizer {
 public:
  SplitByCharacter(bool (*wanted)(char32_t), Behavior behavior)
      : wanted_(wanted), behavior_(behavior) {}
  void split(const Piece& piece, const PieceSink& sink) const override {
    Cutter cutter(behavior_, piece, sink);
    for_each_segment_of(wanted_, piece.text, [&](std::size_t begin, std::size_t end, bool match) {
      cutter.segment(begin, end, match);
    });
    cutter.finish();
  }

 private:
  bool (*wanted_)(char32_t);
  Behavior behavior_;
};

std::unique_ptr<PreTokenizer> read_sequence(JsonElement& element) {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  for (JsonElement& step : element.children("pretokenizers"))
    steps.push_back(read_pre_tokenizer(step));
  return std::make_unique<PreTokenizerSequence>(std::move(steps));
}

std::unique_ptr<PreTokenizer> read_split(JsonElement& element) {
  std::optional<Regex> pattern = element.pattern("pattern");
  const auto behavior = static_cast<Behavior>(element.word("behavior", kBehaviors));
  const bool invert = element.boolean("invert");
  if (!pattern.has_value()) return nullptr;
  return std::make_unique<SplitByPattern>(std::move(*pattern), behavior, invert);
}

std::unique_ptr<PreTokenizer> read_digits(JsonElement& element) {
  const bool individual = element.boolean("individual_digits");
  return std::make_unique<SplitByCharacter>(is_numeric,
                                            individual ? Behavior::Isolated : Behavior::Contiguous);
}

// Runs of word characters, with the joiners as Rust's \w has them, and runs of what is neither those
// nor white space.
std::unique_ptr<PreTokenizer> read_whitespace(JsonElement& /*element*/) {
  const std::string word = cat(kWordSet, R"(\x{200c}\x{200d})");
  return std::make_unique<SplitByPattern>(
      Regex::of_pcre2(cat("[", word, "]+|[^", word, kWhiteSpaceSet, "]+")), Behavior::Removed,
      /*invert=*/true);
}

std::unique_ptr<PreTokenizer> read_whitespace_split(JsonElement& /*element*/) {
  return std::make_unique<SplitByCharacter>(is_white_space, Behavior::Removed);
}

std::unique_ptr<PreTokenizer> read_punctuation(JsonElement& element) {
  const std::size_t behavior =
      element.word("behavior", kBehaviors, static_cast<std::size_t>(Behavior::Isolated));
  return std::make_unique<SplitByCharacter>(is_punctuation, static_cast<Behavior>(behavior));
}

std::unique_ptr<PreTokenizer> read_bert(JsonElement& /*element*/) {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  steps.push_back(std::make_unique<SplitByCharacter>(is_white_space, Behavior::Removed));
  steps.push_back(std::make_unique<SplitByCharacter>(is_punctuation, Behavior::Isolated));
  return std::make_unique<PreTokenizerSequence>(std::move(steps));
}

constexpr std::array<ElementKind<PreTokenizer>, 9> kKinds = {{
    {"Sequence", read_sequence},
    {"ByteLevel", read_byte_level},
    {"Split", read_split},
    {"Digits", read_digits},
    {"Whitespace", read_whitespace},
    {"WhitespaceSplit", read_whitespace_split},
    {"Punctuation", read_punctuation},
    {"BertPreTokenizer", read_bert},
    {"Metaspace", read_metaspace},
}};

}  // namespace

std::unique_ptr<PreTokenizer> read_pre_tokenizer(JsonElement& element) {
  return read_kind(element, std::span<const ElementKind<PreTokenizer>>(kKinds));
}

}  // namespace headrace
