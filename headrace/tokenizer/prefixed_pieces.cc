// The pre-tokenizers that put something before a piece: ByteLevel a space, Metaspace its mark.
#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "headrace/tokenizer/behavior.h"
#include "headrace/tokenizer/byte_level.h"
#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/pre_tokenizer.h"
#include "headrace/tokenizer/regex.h"
#include "headrace/tokenizer/unicode.h"

namespace headrace {
namespace {

// GPT-2's words: an English contraction, or letters, digits or others with the space before them.
constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex)
      : add_prefix_space_(add_prefix_space),
        use_regex_(use_regex),
        words_(Regex::of_pattern(kGpt2Words)) {}

  void split(const Piece& piece, const PieceSink& sink) const override {
    std::string spaced;
    Piece whole = piece;
    if (add_prefix_space_ && !piece.text.starts_with(' ')) {
      spaced.reserve(piece.text.size() + 1);
      spaced.push_back(' ');
      spaced += piece.text;
      whole.text = spaced;
    }
    std::string characters;
    const auto as_characters = [&](const Piece& word) {
      characters.clear();
      append_byte_level(characters, word.text);
      sink({characters, word.first});
    };
    if (!use_regex_) return as_characters(whole);
    const PieceSink mapped = std::ref(as_characters);
    Cutter cutter(Behavior::Isolated, whole, mapped);
    for_each_segment(words_, whole.text, [&](std::size_t begin, std::size_t end, bool match) {
      cutter.segment(begin, end, match);
    });
    cutter.finish();
  }

 private:
  bool add_prefix_space_;
  bool use_regex_;
  Regex words_;
};

class Metaspace : public PreTokenizer {
 public:
  Metaspace(char32_t mark, PrependScheme scheme, bool split)
      : mark_(mark), text_(utf8(mark)), scheme_(scheme), split_(split) {}

  void split(const Piece& piece, const PieceSink& sink) const override {
    std::string marked;
    marked.reserve(piece.text.size() + text_.size());
    const bool prepend =
        scheme_ == PrependScheme::Always || (scheme_ == PrependScheme::First && piece.first);
    if (prepend && !piece.text.starts_with(text_) && !piece.text.starts_with(' ')) marked += text_;
    for (const char c : piece.text) {
      if (c == ' ') {
        marked += text_;
      } else {
        marked.push_back(c);
      }
    }
    const Piece whole{marked, piece.first};
    if (!split_) return sink(whole);
    Cutter cutter(Behavior::MergedWithNext, whole, sink);
    const auto is_mark = [&](char32_t c) { return c == mark_; };
    for_each_segment_of(is_mark, marked, [&](std::size_t begin, std::size_t end, bool match) {
      cutter.segment(begin, end, match);
    });
    cutter.finish();
  }

 private:
  char32_t mark_;
  std::string text_;
  PrependScheme scheme_;
  bool split_;
};

}  // namespace

std::unique_ptr<PreTokenizer> read_byte_level(JsonElement& element) {
  const bool add_prefix_space = element.boolean("add_prefix_space");
  const bool use_regex = element.boolean("use_regex", true);
  element.boolean("trim_offsets", true);  // of where tokens lie in the text, which we do not tell
  return std::make_unique<ByteLevel>(add_prefix_space, use_regex);
}

PrependScheme read_prepend_scheme(JsonElement& element) {
  constexpr std::array<const char*, 3> kSchemes = {"always", "first", "never"};
  const bool given = element.find("prepend_scheme") != nullptr;
  const auto scheme = static_cast<PrependScheme>(element.word("prepend_scheme", kSchemes, 0));
  if (element.boolean("add_prefix_space", true)) return scheme;
  element.check(!given || scheme == PrependScheme::Never, "add_prefix_space",
                "is false, which prepend_scheme contradicts");
  return PrependScheme::Never;
}

std::unique_ptr<PreTokenizer> read_metaspace(JsonElement& element) {
  const char32_t mark = element.character("replacement");
  const PrependScheme scheme = read_prepend_scheme(element);
  element.text("str_rep", "");  // the same as `replacement`, in files of old
  const bool split = element.boolean("split", true);
  return std::make_unique<Metaspace>(mark, scheme, split);
}

}  // namespace headrace
