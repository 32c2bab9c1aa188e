// Tokens beside the model's, found in a text before all else: <s>, <|im_end|>, [MASK].
//
//   const AddedTokens added(read_added_tokens(file, vocabulary), normalizer);
//   added.cut("<s>Hi", AddedKind::Raw, each);   // each(0, 3, id of <s>), each(3, 5, -1)
//
// Where several could begin, the longest is taken. Those that are `normalized` are looked for in the
// text that the normalizer has been over, the others before it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/normalizer.h"
#include "headrace/tokenizer/vocabulary.h"

namespace headrace {

struct AddedToken {
  std::int32_t id;
  std::string content;
  bool special;         // left out by decoding without special tokens
  bool normalized;      // looked for after the normalizer
  bool single_word;     // no word character on either side
  bool lstrip;          // takes the white space before it
  bool rstrip;          // and after it
  std::string pattern;  // what it is looked for as, and decodes to: AddedTokens fills it in
};

enum class AddedKind { Raw, Normalized };

class AddedTokens {
 public:
  // `normalizer` may be null.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer);
  AddedTokens(const AddedTokens&) = delete;
  AddedTokens& operator=(const AddedTokens&) = delete;

  // Calls each(begin, end, id) for all of a text in order, id -1 where no token was added.
  using Each = std::function<void(std::size_t, std::size_t, std::int32_t)>;
  void cut(std::string_view text, AddedKind kind, const Each& each) const;

  const AddedToken* find(std::int32_t id) const;  // null: not added
  const AddedToken* find(std::string_view content) const;
  std::int32_t ids_end() const;  // one more than the greatest id

 private:
  struct Match {
    std::size_t begin;
    std::size_t end;
    const AddedToken* token;
  };
  // By first byte, the longest first.
  using Patterns = std::array<std::vector<const AddedToken*>, 256>;

  void add_pattern(const AddedToken& token, AddedKind kind);
  std::optional<Match> next_match(std::string_view text,
                                  std::size_t from,
                                  const Patterns& patterns) const;

  std::vector<AddedToken> tokens_;
  std::array<Patterns, 2> patterns_;  // by kind
  std::unordered_map<std::int32_t, const AddedToken*> by_id_;
};

// The list `added_tokens`. Their ids must be the model's, or go on where those end.
std::vector<AddedToken> read_added_tokens(JsonElement& file, const Vocabulary& vocabulary);

}  // namespace headrace
