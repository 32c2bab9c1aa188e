// Text to token ids and back.
//
//   std::unique_ptr<Tokenizer> tokenizer = make_tokenizer("byte");
//   tokenizer->encode("Hi") == std::vector<std::int32_t>{72, 105};
//   make_tokenizer("Llama-3.2-1B/tokenizer.json")->id_of("<|eot_id|>") == 128009;
//
// Ids are in [0, vocabulary). Tokenizers hold no state that changes: threads may share one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace headrace {

enum class SpecialTokens { Without, With };

class Tokenizer {
 public:
  Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  virtual ~Tokenizer() = default;

  // The same for those that give the same ids, whatever file they were read from: part of the key
  // of cached token files.
  virtual std::string name() const = 0;
  virtual int vocabulary() const = 0;
  // Of a token as the vocabulary writes it, special ones too; none: it has no such token.
  virtual std::optional<std::int32_t> id_of(std::string_view token) const = 0;

  // With special tokens: those that the tokenizer puts around a text (as <s> before it). Those that
  // stand in the text itself are tokens either way.
  std::vector<std::int32_t> encode(std::string_view text,
                                   SpecialTokens special = SpecialTokens::Without) const {
    return encode_text(text, special);
  }
  // Throws Error, naming the position, for an id outside the vocabulary.
  std::string decode(std::span<const std::int32_t> ids,
                     SpecialTokens special = SpecialTokens::With) const {
    return decode_ids(ids, special);
  }

 private:
  virtual std::vector<std::int32_t> encode_text(std::string_view text,
                                                SpecialTokens special) const = 0;
  virtual std::string decode_ids(std::span<const std::int32_t> ids,
                                 SpecialTokens special) const = 0;
};

// "byte"; or the path of a tokenizer.json, or of a folder that holds one or GPT-2's two files
// (tokenizer_json.h). Throws UsageError: for a name that is neither, with the nearest known; for a
// file that is not understood.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name);
// The same, kept for the process: a large file takes half a second to read.
std::shared_ptr<const Tokenizer> shared_tokenizer(const std::string& name);
// Those that no file has to hold.
std::vector<std::string> tokenizer_names();

}  // namespace headrace
