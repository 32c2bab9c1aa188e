// WordPiece: the longest token that a word begins with, then the longest of those that go on
// (Schuster and Nakajima 2012, "Japanese and Korean Voice Search"; as BERT applies it: Song et al. 2021,
// "Fast WordPiece Tokenization").
//
//   auto word_piece = read_word_piece(element);   // {"type": "WordPiece", "vocab": {…}, …}
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/model.h"
#include "headrace/tokenizer/vocabulary.h"
#include "headrace/tokenizer/word_cache.h"

namespace headrace {

struct WordPieceOptions {
  std::string unknown;  // the token of a word that cannot be put together
  std::string prefix;   // of tokens that go on a word
  std::size_t longest;  // characters; a longer word is unknown
};

class WordPiece : public Model {
 public:
  WordPiece(Vocabulary vocabulary, WordPieceOptions options);
  void encode(std::string_view piece,
              WordCache& cache,
              std::vector<std::int32_t>& ids) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  bool append_tokens(std::string_view word, std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  WordPieceOptions options_;
  std::int32_t unknown_;
  std::size_t longest_token_ = 0;  // bytes
};

std::unique_ptr<Model> read_word_piece(JsonElement& element);

}  // namespace headrace
