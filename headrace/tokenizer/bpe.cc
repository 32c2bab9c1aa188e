#include "headrace/tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/strict_json.h"
#include "headrace/tokenizer/unicode.h"
#include "headrace/tokenizer/word_cache.h"

namespace headrace {
namespace {

constexpr std::string_view kWordMark = "\xe2\x96\x81";  // U+2581

std::string byte_token(std::size_t byte) {
  std::array<char, 8> name{};
  std::snprintf(name.data(), name.size(), "<0x%02X>", static_cast<unsigned>(byte));
  return name.data();
}

}  // namespace

Bpe::Bpe(Vocabulary vocabulary, Merges merges, BpeOptions options, bool words_part)
    : vocabulary_(std::move(vocabulary)),
      merges_(std::move(merges)),
      options_(std::move(options)),
      words_part_(words_part && vocabulary_.find(kWordMark) >= 0) {
  if (options_.unknown.has_value()) unknown_ = vocabulary_.find(*options_.unknown);
  for (std::size_t byte = 0; byte < bytes_.size(); ++byte)
    bytes_.at(byte) = vocabulary_.find(byte_token(byte));
}

// A SentencePiece's piece is the whole text. Where no merge reaches over the beginning of a word, words
// may be done one by one, and each of them once.
void Bpe::encode(std::string_view piece, WordCache& cache, std::vector<std::int32_t>& ids) const {
  if (options_.ignore_merges) {
    const std::int32_t id = vocabulary_.find(piece);
    if (id >= 0) return ids.push_back(id);
  }
  while (!piece.empty()) {
    std::size_t end = piece.size();
    if (words_part_) {
      std::size_t letters = 0;  // marks that follow one another may merge
      while (piece.substr(letters).starts_with(kWordMark)) letters += kWordMark.size();
      end = std::min(piece.find(kWordMark, letters), piece.size());
    }
    const std::string_view word = piece.substr(0, end);
    cache.append(word, ids, [&] { encode_word(word, ids); });
    piece.remove_prefix(end);
  }
}

void Bpe::encode_word(std::string_view word, std::vector<std::int32_t>& ids) const {
  std::vector<std::int32_t> symbols_of_word = symbols(word);
  merges_.apply(symbols_of_word);
  ids.insert(ids.end(), symbols_of_word.begin(), symbols_of_word.end());
}

bool Bpe::append_bytes(std::string_view character, std::vector<std::int32_t>& ids) const {
  for (const char byte : character)
    if (bytes_[static_cast<unsigned char>(byte)] < 0) return false;
  for (const char byte : character) ids.push_back(bytes_[static_cast<unsigned char>(byte)]);
  return true;
}

std::vector<std::int32_t> Bpe::symbols(std::string_view word) const {
  std::vector<std::int32_t> ids;
  ids.reserve(word.size());
  bool unknown_waits = false;  // till it is known whether the next is to be fused with it
  for (std::size_t at = 0; at < word.size();) {
    const std::string_view character = word.substr(at, code_point(word, at).size);
    at += character.size();
    const std::int32_t id = vocabulary_.find(character);
    if (id >= 0) {
      if (unknown_waits) ids.push_back(unknown_);
      unknown_waits = false;
      ids.push_back(id);
      continue;
    }
    if (options_.byte_fallback && append_bytes(character, ids)) continue;
    if (!options_.unknown.has_value()) continue;
    if (unknown_ < 0)
      throw Error(cat(excerpt(character), " has no token, and the vocabulary lacks unk_token, ",
                      excerpt(*options_.unknown)));
    if (unknown_waits && !options_.fuse_unknown) ids.push_back(unknown_);
    unknown_waits = true;
  }
  if (unknown_waits) ids.push_back(unknown_);
  return ids;
}

}  // namespace headrace
