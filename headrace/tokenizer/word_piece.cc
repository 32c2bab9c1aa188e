#include "headrace/tokenizer/word_piece.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/strict_json.h"
#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/unicode.h"
#include "headrace/tokenizer/vocabulary.h"
#include "headrace/tokenizer/word_cache.h"

namespace headrace {

WordPiece::WordPiece(Vocabulary vocabulary, WordPieceOptions options)
    : vocabulary_(std::move(vocabulary)),
      options_(std::move(options)),
      unknown_(vocabulary_.find(options_.unknown)) {
  for (std::int32_t id = 0; id < vocabulary_.size(); ++id)
    longest_token_ = std::max(longest_token_, vocabulary_.token(id).size());
}

void WordPiece::encode(std::string_view piece,
                       WordCache& cache,
                       std::vector<std::int32_t>& ids) const {
  cache.append(piece, ids, [&] {
    const std::size_t before = ids.size();
    if (count_code_points(piece) <= options_.longest && append_tokens(piece, ids)) return;
    ids.resize(before);
    ids.push_back(unknown_);
  });
}

bool WordPiece::append_tokens(std::string_view word, std::vector<std::int32_t>& ids) const {
  std::string token;
  for (std::size_t begin = 0; begin < word.size();) {
    const std::string_view prefix = begin == 0 ? std::string_view() : options_.prefix;
    // No longer than any token, so that a long word takes a time in its length.
    std::size_t end = std::min(word.size(), begin + longest_token_);
    while (end < word.size() && (static_cast<unsigned char>(word[end]) & 0xc0) == 0x80) ++end;
    std::int32_t id = -1;
    while (end > begin) {
      token = prefix;
      token += word.substr(begin, end - begin);
      id = vocabulary_.find(token);
      if (id >= 0) break;
      end -= last_code_point(word.substr(begin, end - begin)).size;
    }
    if (id < 0) return false;
    ids.push_back(id);
    begin = end;
  }
  return true;
}

std::unique_ptr<Model> read_word_piece(JsonElement& element) {
  WordPieceOptions options;
  options.unknown = element.text("unk_token");
  options.prefix = element.text("continuing_subword_prefix");
  options.longest =
      element.natural("max_input_chars_per_word", std::numeric_limits<std::size_t>::max());
  Vocabulary vocabulary =
      read_vocabulary(element.find("vocab"), element.place("vocab"), element.faults());
  element.check(vocabulary.find(options.unknown) >= 0, "unk_token",
                cat("is ", excerpt(options.unknown), ", which the vocabulary has not"));
  return std::make_unique<WordPiece>(std::move(vocabulary), std::move(options));
}

}  // namespace headrace
