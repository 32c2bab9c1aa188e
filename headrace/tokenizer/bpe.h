// Byte-pair encoding, of bytes (GPT-2, Llama 3, Qwen) or of characters as SentencePiece has it
// (Llama 2, Mistral). Papers: merges.h, byte_level.h; SentencePiece: Kudo and Richardson 2018.
//
//   auto bpe = read_bpe(element);   // {"type": "BPE", "vocab": {…}, "merges": […]}
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/merges.h"
#include "headrace/tokenizer/model.h"
#include "headrace/tokenizer/vocabulary.h"
#include "headrace/tokenizer/word_cache.h"

namespace headrace {

struct BpeOptions {
  std::optional<std::string> unknown;  // the token of characters that have none; without: left out
  bool fuse_unknown = false;           // one for all that follow one another
  bool byte_fallback = false;          // rather the tokens <0x00> to <0xFF> of its bytes
  bool ignore_merges = false;          // a piece that is a token is that token
};

class Bpe : public Model {
 public:
  // `words_part`: whether no merge reaches over the beginning of a word, which U+2581 marks.
  Bpe(Vocabulary vocabulary, Merges merges, BpeOptions options, bool words_part);
  void encode(std::string_view piece,
              WordCache& cache,
              std::vector<std::int32_t>& ids) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  void encode_word(std::string_view word, std::vector<std::int32_t>& ids) const;
  std::vector<std::int32_t> symbols(std::string_view word) const;
  bool append_bytes(std::string_view character, std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  Merges merges_;
  BpeOptions options_;
  std::int32_t unknown_ = -1;
  std::array<std::int32_t, 256> bytes_{};  // -1: no token
  bool words_part_;
};

std::unique_ptr<Model> read_bpe(JsonElement& element);

// Of GPT-2's two files: the json of the vocabulary, the text of the merges.
std::unique_ptr<Model> read_bpe_of_two_files(const nlohmann::json& vocabulary,
                                             std::string_view merges,
                                             FileFaults& faults,
                                             FileFaults& merges_faults);

}  // namespace headrace
