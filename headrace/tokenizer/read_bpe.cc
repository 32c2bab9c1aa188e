// Byte-pair encoding's element of tokenizer.json, and GPT-2's two files.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/strict_json.h"
#include "headrace/tokenizer/bpe.h"
#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/merges.h"
#include "headrace/tokenizer/vocabulary.h"

namespace headrace {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kWordMark = "\xe2\x96\x81";

struct Pair {
  std::string_view left;
  std::string_view right;
};

std::optional<Pair> pair_of_text(std::string_view text) {
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos)
    return std::nullopt;
  return Pair{text.substr(0, space), text.substr(space + 1)};
}

std::optional<Pair> pair_of(const Json& json) {
  if (json.is_string()) return pair_of_text(json.get_ref<const std::string&>());
  if (!json.is_array() || json.size() != 2 || !json[0].is_string() || !json[1].is_string())
    return std::nullopt;
  return Pair{json[0].get_ref<const std::string&>(), json[1].get_ref<const std::string&>()};
}

// Merges as they are read.
class Gathered {
 public:
  explicit Gathered(const Vocabulary& vocabulary) : vocabulary_(&vocabulary) {}

  // `place` and `given` tell where it stands and what, for messages.
  template <class Place, class Given>
  void add(const std::optional<Pair>& pair,
           const Place& place,
           const Given& given,
           FileFaults& faults) {
    if (!pair.has_value()) {
      faults.check(false, place(), " must be two tokens; it is ", excerpt(given()));
      return;
    }
    both_ = pair->left;
    both_ += pair->right;
    const std::int32_t left = vocabulary_->find(pair->left);
    const std::int32_t right = vocabulary_->find(pair->right);
    const std::int32_t merged = vocabulary_->find(both_);
    if (left < 0 || right < 0 || merged < 0) {
      const std::string_view unknown = left < 0 ? pair->left : right < 0 ? pair->right : both_;
      faults.check(false, place(), " names ", excerpt(unknown), ", which the vocabulary has not");
      return;
    }
    merges.add(left, right, merged);
    if (pair->right.starts_with(kWordMark) && !pair->left.ends_with(kWordMark)) words_part = false;
    // Such a token stands for a byte, so that its text says nothing of what is beside what.
    if (pair->left.starts_with("<0x") || pair->right.starts_with("<0x")) words_part = false;
  }

  Merges merges;
  bool words_part = true;

 private:
  const Vocabulary* vocabulary_;
  std::string both_;
};

void require_empty(JsonElement& element, const std::string& key) {
  const auto given = element.text_or_none(key);
  element.check(!given.has_value() || given->empty(), key,
                cat("is ", excerpt(given.value_or("")), "; only BPE without one is read"));
}

}  // namespace

std::unique_ptr<Model> read_bpe(JsonElement& element) {
  BpeOptions options;
  const Json* dropout = element.find("dropout");
  element.check(dropout == nullptr || *dropout == 0.0, "dropout",
                "is set: the same text would have other ids each time");
  options.unknown = element.text_or_none("unk_token");
  require_empty(element, "continuing_subword_prefix");
  require_empty(element, "end_of_word_suffix");
  options.fuse_unknown = element.boolean("fuse_unk", false);
  options.byte_fallback = element.boolean("byte_fallback", false);
  options.ignore_merges = element.boolean("ignore_merges", false);
  Vocabulary vocabulary =
      read_vocabulary(element.find("vocab"), element.place("vocab"), element.faults());
  // Files of old have "" where there is none.
  if (options.unknown.has_value() && !options.unknown->empty())
    element.check(vocabulary.find(*options.unknown) >= 0, "unk_token",
                  cat("is ", excerpt(*options.unknown), ", which the vocabulary has not"));
  Gathered gathered(vocabulary);
  const Json* merges = element.find("merges");
  if (element.check(merges != nullptr && merges->is_array(), "merges", "must be a list")) {
    gathered.merges.reserve(merges->size());
    for (std::size_t i = 0; i < merges->size(); ++i) {
      const Json& merge = (*merges)[i];
      gathered.add(
          pair_of(merge), [&] { return cat(element.place("merges"), "[", i, "]"); },
          [&] { return merge.dump(); }, element.faults());
    }
  }
  return std::make_unique<Bpe>(std::move(vocabulary), std::move(gathered.merges),
                               std::move(options), gathered.words_part);
}

std::unique_ptr<Model> read_bpe_of_two_files(const Json& vocabulary_json,
                                             std::string_view merges,
                                             FileFaults& faults,
                                             FileFaults& merges_faults) {
  Vocabulary vocabulary = read_vocabulary(&vocabulary_json, "the vocabulary", faults);
  Gathered gathered(vocabulary);
  for (std::size_t line = 1; !merges.empty(); ++line) {
    const std::size_t end = std::min(merges.find('\n'), merges.size());
    std::string_view text = merges.substr(0, end);
    merges.remove_prefix(std::min(end + 1, merges.size()));
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.empty() || text.starts_with("#version")) continue;
    gathered.add(
        pair_of_text(text), [&] { return cat("line ", line); }, [&] { return text; },
        merges_faults);
  }
  return std::make_unique<Bpe>(std::move(vocabulary), std::move(gathered.merges), BpeOptions{},
                               gathered.words_part);
}

}  // namespace headrace
