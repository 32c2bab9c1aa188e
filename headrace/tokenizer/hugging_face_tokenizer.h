// A tokenizer as Hugging Face's `tokenizers` package puts it together: added tokens are cut out of the
// text, the rest is normalized, cut into pieces, and each piece encoded by the model; the
// post-processor puts special tokens around. tokenizer_json.h reads one.
//
// Throws Error where a text is not UTF-8 (the package takes none such either), naming the byte.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/tokenizer/added_tokens.h"
#include "headrace/tokenizer/decoder.h"
#include "headrace/tokenizer/model.h"
#include "headrace/tokenizer/normalizer.h"
#include "headrace/tokenizer/post_processor.h"
#include "headrace/tokenizer/pre_tokenizer.h"
#include "headrace/tokenizer/tokenizer.h"

namespace headrace {

// Null where there is none; there is always a model.
struct TokenizerParts {
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::unique_ptr<Model> model;
  std::unique_ptr<PostProcessor> post_processor;
  std::unique_ptr<Decoder> decoder;
  std::vector<AddedToken> added;
};

class HuggingFaceTokenizer : public Tokenizer {
 public:
  HuggingFaceTokenizer(std::string name, TokenizerParts parts);
  std::string name() const override { return name_; }
  int vocabulary() const override { return vocabulary_; }
  std::optional<std::int32_t> id_of(std::string_view token) const override;

 private:
  std::vector<std::int32_t> encode_text(std::string_view text,
                                        SpecialTokens special) const override;
  std::string decode_ids(std::span<const std::int32_t> ids, SpecialTokens special) const override;
  void encode_normalized(const Piece& piece,
                         WordCache& cache,
                         std::vector<std::int32_t>& ids) const;

  std::string name_;
  TokenizerParts parts_;
  AddedTokens added_;
  int vocabulary_;
};

}  // namespace headrace
