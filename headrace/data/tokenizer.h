// Text to token ids and back.
//
//   std::unique_ptr<Tokenizer> tokenizer = make_tokenizer("byte");
//   tokenizer->encode("Hi") == std::vector<std::int32_t>{72, 105};
//
// Ids are in [0, vocabulary). Tokenizers hold no state that changes: threads may share one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace headrace {

class Tokenizer {
 public:
  Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  virtual ~Tokenizer() = default;

  // As make_tokenizer takes it; part of the key of cached token files.
  virtual std::string name() const = 0;
  virtual int vocabulary() const = 0;
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  // Throws Error, naming the position, for an id outside the vocabulary.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
};

// Throws UsageError with the nearest known name for one that there is not.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name);
std::vector<std::string> tokenizer_names();

}  // namespace headrace
