#include "headrace/tokenizer/decoder.h"

#include <array>
#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/pre_tokenizer.h"
#include "headrace/tokenizer/regex.h"
#include "headrace/tokenizer/unicode.h"

namespace headrace {
namespace {

using Tokens = std::vector<std::string>;

class DecoderSequence : public Decoder {
 public:
  explicit DecoderSequence(std::vector<std::unique_ptr<Decoder>> steps)
      : steps_(std::move(steps)) {}
  Tokens decode(Tokens tokens) const override {
    for (const auto& step : steps_) tokens = step->decode(std::move(tokens));
    return tokens;
  }

 private:
  std::vector<std::unique_ptr<Decoder>> steps_;
};

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
    text.replace(at, from.size(), to);
    at += to.size();
  }
}

// The space before a mark or the end of a contraction taken out, in BERT's order.
void clean_up(std::string& text) {
  constexpr std::array<std::pair<const char*, const char*>, 11> kTurns = {{{" .", "."},
                                                                           {" ?", "?"},
                                                                           {" !", "!"},
                                                                           {" ,", ","},
                                                                           {" ' ", "'"},
                                                                           {" n't", "n't"},
                                                                           {" 'm", "'m"},
                                                                           {" do not", " don't"},
                                                                           {" 's", "'s"},
                                                                           {" 've", "'ve"},
                                                                           {" 're", "'re"}}};
  for (const auto& [from, to] : kTurns) replace_all(text, from, to);
}

// A space before each token that goes on no word.
class WordPieceDecoder : public Decoder {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup)
      : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  Tokens decode(Tokens tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      std::string& token = tokens[i];
      if (i > 0) {
        if (token.starts_with(prefix_)) {
          token.erase(0, prefix_.size());
        } else {
          token.insert(0, " ");
        }
      }
      if (cleanup_) clean_up(token);
    }
    return tokens;
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

// Marks become spaces again; those of the first token stand for what was prepended.
class MetaspaceDecoder : public Decoder {
 public:
  MetaspaceDecoder(char32_t mark, PrependScheme scheme) : mark_(utf8(mark)), scheme_(scheme) {}
  Tokens decode(Tokens tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], mark_, i == 0 && scheme_ != PrependScheme::Never ? "" : " ");
    return tokens;
  }

 private:
  std::string mark_;
  PrependScheme scheme_;
};

class FuseDecoder : public Decoder {
 public:
  Tokens decode(Tokens tokens) const override {
    std::string all;
    for (const std::string& token : tokens) all += token;
    return {std::move(all)};
  }
};

class StripDecoder : public Decoder {
 public:
  StripDecoder(char32_t content, std::size_t start, std::size_t stop)
      : content_(utf8(content)), start_(start), stop_(stop) {}
  Tokens decode(Tokens tokens) const override {
    for (std::string& token : tokens) {
      std::string_view kept = token;
      for (std::size_t i = 0; i < start_ && kept.starts_with(content_); ++i)
        kept.remove_prefix(content_.size());
      for (std::size_t i = 0; i < stop_ && kept.ends_with(content_); ++i)
        kept.remove_suffix(content_.size());
      token = std::string(kept);
    }
    return tokens;
  }

 private:
  std::string content_;
  std::size_t start_;
  std::size_t stop_;
};

class ReplaceDecoder : public Decoder {
 public:
  ReplaceDecoder(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Tokens decode(Tokens tokens) const override {
    for (std::string& token : tokens) {
      std::string replaced;
      for_each_segment(pattern_, token, [&](std::size_t begin, std::size_t end, bool match) {
        replaced +=
            match ? std::string_view(content_) : std::string_view(token).substr(begin, end - begin);
      });
      token = std::move(replaced);
    }
    return tokens;
  }

 private:
  Regex pattern_;
  std::string content_;
};

std::unique_ptr<Decoder> read_sequence(JsonElement& element) {
  std::vector<std::unique_ptr<Decoder>> steps;
  for (JsonElement& step : element.children("decoders")) steps.push_back(read_decoder(step));
  return std::make_unique<DecoderSequence>(std::move(steps));
}

std::unique_ptr<Decoder> read_word_piece(JsonElement& element) {
  std::string prefix = element.text("prefix");
  const bool cleanup = element.boolean("cleanup");
  return std::make_unique<WordPieceDecoder>(std::move(prefix), cleanup);
}

std::unique_ptr<Decoder> read_metaspace_decoder(JsonElement& element) {
  const char32_t mark = element.character("replacement");
  const PrependScheme scheme = read_prepend_scheme(element);
  element.text("str_rep", "");
  element.boolean("split", true);  // of pre-tokenizing
  return std::make_unique<MetaspaceDecoder>(mark, scheme);
}

std::unique_ptr<Decoder> read_fuse(JsonElement& /*element*/) {
  return std::make_unique<FuseDecoder>();
}

std::unique_ptr<Decoder> read_strip(JsonElement& element) {
  constexpr std::size_t kMost = std::numeric_limits<int>::max();
  const char32_t content = element.character("content");
  const std::size_t start = element.natural("start", kMost);
  const std::size_t stop = element.natural("stop", kMost);
  return std::make_unique<StripDecoder>(content, start, stop);
}

std::unique_ptr<Decoder> read_replace(JsonElement& element) {
  std::optional<Regex> pattern = element.pattern("pattern");
  std::string content = element.text("content");
  if (!pattern.has_value()) return nullptr;
  return std::make_unique<ReplaceDecoder>(std::move(*pattern), std::move(content));
}

constexpr std::array<ElementKind<Decoder>, 8> kKinds = {{
    {"Sequence", read_sequence},
    {"ByteLevel", read_byte_level_decoder},
    {"WordPiece", read_word_piece},
    {"Metaspace", read_metaspace_decoder},
    {"ByteFallback", read_byte_fallback_decoder},
    {"Fuse", read_fuse},
    {"Strip", read_strip},
    {"Replace", read_replace},
}};

}  // namespace

std::unique_ptr<Decoder> read_decoder(JsonElement& element) {
  return read_kind(element, std::span<const ElementKind<Decoder>>(kKinds));
}

}  // namespace headrace
