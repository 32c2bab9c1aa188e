// The ids of words that a text has had before, for as long as one text is encoded.
//
//   WordCache cache;
//   cache.append("race", ids, [&] { … });   // appends to ids; the second time they are found
//
// It belongs to one call, so that a tokenizer need not be locked, and holds so many words and no more:
// most words of a long text are few.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace headrace {

class WordCache {
 public:
  template <class Make>
  void append(std::string_view word, std::vector<std::int32_t>& ids, const Make& make) {
    if (word.size() > kLongestWord) return make();
    const auto found = places_.find(word);
    if (found != places_.end()) {
      const Place place = found->second;
      for (std::size_t i = place.begin; i < place.end; ++i) ids.push_back(ids_[i]);
      return;
    }
    const std::size_t before = ids.size();
    make();
    if (places_.size() == kMostWords) return;
    const std::size_t begin = ids_.size();
    for (std::size_t i = before; i < ids.size(); ++i) ids_.push_back(ids[i]);
    places_.emplace(words_.emplace_back(word), Place{begin, ids_.size()});
  }

 private:
  static constexpr std::size_t kLongestWord = 64;  // bytes
  static constexpr std::size_t kMostWords = std::size_t{1} << 17;

  struct Place {
    std::size_t begin;
    std::size_t end;
  };

  std::deque<std::string> words_;
  std::vector<std::int32_t> ids_;
  std::unordered_map<std::string_view, Place> places_;
};

}  // namespace headrace
