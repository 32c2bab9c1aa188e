#include "headrace/tokenizer/hugging_face_tokenizer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/tokenizer/added_tokens.h"
#include "headrace/tokenizer/pre_tokenizer.h"
#include "headrace/tokenizer/unicode.h"
#include "headrace/tokenizer/word_cache.h"

namespace headrace {

HuggingFaceTokenizer::HuggingFaceTokenizer(std::string name, TokenizerParts parts)
    : name_(std::move(name)),
      parts_(std::move(parts)),
      added_(std::move(parts_.added), parts_.normalizer.get()),
      vocabulary_(std::max(parts_.model->vocabulary().size(), added_.ids_end())) {}

std::optional<std::int32_t> HuggingFaceTokenizer::id_of(std::string_view token) const {
  if (const AddedToken* added = added_.find(token)) return added->id;
  const std::int32_t id = parts_.model->vocabulary().find(token);
  return id < 0 ? std::nullopt : std::optional(id);
}

std::vector<std::int32_t> HuggingFaceTokenizer::encode_text(std::string_view text,
                                                            SpecialTokens special) const {
  const std::optional<std::size_t> invalid = invalid_utf8(text);
  check(!invalid.has_value(), "the text is not UTF-8 at byte ", invalid.value_or(0), " of ",
        text.size(), "; the byte tokenizer takes any bytes");
  std::vector<std::int32_t> ids;
  WordCache cache;
  added_.cut(text, AddedKind::Raw, [&](std::size_t begin, std::size_t end, std::int32_t id) {
    const std::string_view part = text.substr(begin, end - begin);
    if (id >= 0) {
      ids.push_back(id);
    } else if (parts_.normalizer == nullptr) {
      encode_normalized({part, begin == 0}, cache, ids);
    } else {
      const std::string normalized = parts_.normalizer->normalize(std::string(part));
      encode_normalized({normalized, begin == 0}, cache, ids);
    }
  });
  if (special == SpecialTokens::With && parts_.post_processor != nullptr)
    ids = parts_.post_processor->apply(std::move(ids));
  return ids;
}

void HuggingFaceTokenizer::encode_normalized(const Piece& piece,
                                             WordCache& cache,
                                             std::vector<std::int32_t>& ids) const {
  const auto encode_piece = [&](const Piece& part) { parts_.model->encode(part.text, cache, ids); };
  const PieceSink sink = std::ref(encode_piece);
  added_.cut(piece.text, AddedKind::Normalized,
             [&](std::size_t begin, std::size_t end, std::int32_t id) {
               const Piece part{piece.text.substr(begin, end - begin), piece.first && begin == 0};
               if (id >= 0) {
                 ids.push_back(id);
               } else if (parts_.pre_tokenizer == nullptr) {
                 sink(part);
               } else {
                 parts_.pre_tokenizer->split(part, sink);
               }
             });
}

std::string HuggingFaceTokenizer::decode_ids(std::span<const std::int32_t> ids,
                                             SpecialTokens special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    check(ids[i] >= 0 && ids[i] < vocabulary_, "token ", i, " to decode has id ", ids[i],
          "; ids of ", name_, " are 0 to ", vocabulary_ - 1);
    const AddedToken* added = added_.find(ids[i]);
    // One that the normalizer changed is no special token any more, to the package.
    if (special == SpecialTokens::Without && added != nullptr && added->special &&
        added->pattern == added->content)
      continue;
    tokens.push_back(added != nullptr ? added->pattern : parts_.model->vocabulary().token(ids[i]));
  }
  // Without a decoder the package puts a space between tokens.
  std::string text;
  if (parts_.decoder != nullptr) tokens = parts_.decoder->decode(std::move(tokens));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && parts_.decoder == nullptr) text.push_back(' ');
    text += tokens[i];
  }
  return text;
}

}  // namespace headrace
