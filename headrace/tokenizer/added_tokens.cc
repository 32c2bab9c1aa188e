#include "headrace/tokenizer/added_tokens.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/strict_json.h"
#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/normalizer.h"
#include "headrace/tokenizer/regex.h"
#include "headrace/tokenizer/regex_syntax.h"
#include "headrace/tokenizer/unicode.h"
#include "headrace/tokenizer/vocabulary.h"

namespace headrace {
namespace {

bool is_word(char32_t c) {
  if (c < 0x80)
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_';
  static const Regex word = Regex::of_pcre2(cat("[", kWordSet, R"(\x{200c}\x{200d}])"));
  return RegexMatches(word, utf8(c)).next();
}

std::size_t space_before(std::string_view text, std::size_t end) {
  while (end > 0) {
    const CodePoint c = last_code_point(text.substr(0, end));
    if (!is_white_space(c.value)) break;
    end -= c.size;
  }
  return end;
}

std::size_t space_after(std::string_view text, std::size_t begin) {
  while (begin < text.size() && is_white_space(code_point(text, begin).value))
    begin += code_point(text, begin).size;
  return begin;
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  return (begin == 0 || !is_word(last_code_point(text.substr(0, begin)).value)) &&
         (end == text.size() || !is_word(code_point(text, end).value));
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer)
    : tokens_(std::move(tokens)) {
  for (AddedToken& token : tokens_) {
    by_id_.emplace(token.id, &token);
    const bool changes = token.normalized && normalizer != nullptr;
    token.pattern = changes ? normalizer->normalize(token.content) : token.content;
    add_pattern(token, token.normalized ? AddedKind::Normalized : AddedKind::Raw);
  }
  // Of equals the special ones first, then those that were named first.
  for (Patterns& kind : patterns_)
    for (std::vector<const AddedToken*>& patterns : kind)
      std::ranges::stable_sort(patterns, [](const AddedToken* a, const AddedToken* b) {
        if (a->pattern.size() != b->pattern.size()) return a->pattern.size() > b->pattern.size();
        return a->special && !b->special;
      });
}

void AddedTokens::add_pattern(const AddedToken& token, AddedKind kind) {
  if (token.pattern.empty()) return;  // the normalizer leaves nothing of it: it is never found
  patterns_.at(static_cast<std::size_t>(kind))[static_cast<unsigned char>(token.pattern[0])]
      .push_back(&token);
}

std::optional<AddedTokens::Match> AddedTokens::next_match(std::string_view text,
                                                          std::size_t from,
                                                          const Patterns& patterns) const {
  for (; from < text.size(); ++from)
    for (const AddedToken* token : patterns[static_cast<unsigned char>(text[from])])
      if (text.substr(from).starts_with(token->pattern))
        return Match{from, from + token->pattern.size(), token};
  return std::nullopt;
}

void AddedTokens::cut(std::string_view text, AddedKind kind, const Each& each) const {
  const Patterns& patterns = patterns_.at(static_cast<std::size_t>(kind));
  std::size_t done = 0;
  std::size_t from = 0;
  while (const std::optional<Match> match = next_match(text, from, patterns)) {
    from = match->end;
    auto [begin, end, token] = *match;
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    // What the token before took is not taken again.
    if (token->lstrip) begin = std::max(space_before(text, begin), done);
    if (token->rstrip) end = space_after(text, end);
    if (begin > done) each(done, begin, -1);
    each(begin, end, token->id);
    done = end;
  }
  if (done < text.size()) each(done, text.size(), -1);
}

const AddedToken* AddedTokens::find(std::int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = std::ranges::find(tokens_, content, &AddedToken::content);
  return found == tokens_.end() ? nullptr : &*found;
}

std::int32_t AddedTokens::ids_end() const {
  std::int32_t end = 0;
  for (const AddedToken& token : tokens_) end = std::max(end, token.id + 1);
  return end;
}

std::vector<AddedToken> read_added_tokens(JsonElement& file, const Vocabulary& vocabulary) {
  constexpr std::size_t kMost = std::numeric_limits<std::int32_t>::max() - 1;
  std::vector<AddedToken> tokens;
  std::set<std::string> contents;
  std::int32_t next = vocabulary.size();
  if (file.find("added_tokens") == nullptr) return tokens;
  for (JsonElement& element : file.children("added_tokens")) {
    AddedToken token;
    token.id = static_cast<std::int32_t>(element.natural("id", kMost));
    token.content = element.text("content");
    token.special = element.boolean("special");
    token.normalized = element.boolean("normalized", !token.special);
    token.single_word = element.boolean("single_word", false);
    token.lstrip = element.boolean("lstrip", false);
    token.rstrip = element.boolean("rstrip", false);
    element.require_no_more();
    if (!element.check(!token.content.empty(), "content", "is empty")) continue;
    if (!element.check(contents.insert(token.content).second, "content",
                       cat("is ", excerpt(token.content), ", as another's is")))
      continue;
    const std::int32_t known = vocabulary.find(token.content);
    element.check(token.id == (known >= 0 ? known : next), "id",
                  cat("is ", token.id, " of ", excerpt(token.content), "; ",
                      known >= 0 ? "the vocabulary has it as " : "the next without a token is ",
                      known >= 0 ? known : next));
    if (known < 0) ++next;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace headrace
