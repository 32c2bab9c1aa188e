#include "headrace/data/tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

// One id a byte: any text in any encoding, and a vocabulary that no file has to hold.
class ByteTokenizer : public Tokenizer {
 public:
  std::string name() const override { return "byte"; }
  int vocabulary() const override { return 256; }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    text.reserve(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      check(ids[i] >= 0 && ids[i] < vocabulary(), "token ", i, " to decode has id ", ids[i],
            "; ids of the byte tokenizer are 0 to ", vocabulary() - 1);
      text.push_back(static_cast<char>(ids[i]));
    }
    return text;
  }
};

}  // namespace

std::vector<std::string> tokenizer_names() {
  return {"byte"};
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name) {
  if (name == "byte") return std::make_unique<ByteTokenizer>();
  const std::string near = nearest(name, tokenizer_names());
  throw UsageError(cat("there is no tokenizer '", name, "'",
                       near.empty() ? "" : cat("; did you mean '", near, "'?"),
                       " (known: ", join_text(tokenizer_names(), ", "), ")"));
}

}  // namespace headrace
