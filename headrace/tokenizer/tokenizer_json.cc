#include "headrace/tokenizer/tokenizer_json.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#define XXH_INLINE_ALL
#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/strict_json.h"
#include "headrace/tokenizer/added_tokens.h"
#include "headrace/tokenizer/bpe.h"
#include "headrace/tokenizer/decoder.h"
#include "headrace/tokenizer/hugging_face_tokenizer.h"
#include "headrace/tokenizer/json_element.h"
#include "headrace/tokenizer/model.h"
#include "headrace/tokenizer/normalizer.h"
#include "headrace/tokenizer/post_processor.h"
#include "headrace/tokenizer/pre_tokenizer.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// The largest in use (256 thousand tokens, merges in pairs) have 33 MB.
constexpr std::size_t kMaxBytes = std::size_t{256} << 20;

std::string hash_text(std::string_view first, std::string_view second = "") {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, first.data(), first.size());
  const std::uint64_t size = first.size();
  if (!second.empty()) {
    XXH3_64bits_update(&state, &size, sizeof size);  // so that what ends one begins not the other
    XXH3_64bits_update(&state, second.data(), second.size());
  }
  std::array<char, 20> text{};
  std::snprintf(text.data(), text.size(), "%016llx",
                static_cast<unsigned long long>(XXH3_64bits_digest(&state)));
  return text.data();
}

void check_ids(const PostProcessor& processor,
               const HuggingFaceTokenizer& tokenizer,
               FileFaults& faults) {
  for (const std::int32_t id : processor.apply({}))
    faults.check(id < tokenizer.vocabulary(), "post_processor puts in the id ", id,
                 ", and ids are 0 to ", tokenizer.vocabulary() - 1);
}

template <class Part>
std::unique_ptr<Part> read_part(JsonElement& file,
                                const char* key,
                                std::unique_ptr<Part> (*read)(JsonElement&)) {
  std::optional<JsonElement> element = file.child(key);
  return element.has_value() ? read(*element) : nullptr;
}

}  // namespace

std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view text, const std::string& file) {
  const Json json = parse_json(text, file, kMaxBytes);
  FileFaults faults(file);
  JsonElement top(json, "", faults);
  const std::string version = top.text("version", "1.0");
  top.check(version == "1.0", "version", cat("is ", excerpt(version), "; known: 1.0"));
  for (const char* key : {"truncation", "padding"}) top.find(key);
  TokenizerParts parts;
  parts.normalizer = read_part(top, "normalizer", read_normalizer);
  parts.pre_tokenizer = read_part(top, "pre_tokenizer", read_pre_tokenizer);
  parts.post_processor = read_part(top, "post_processor", read_post_processor);
  parts.decoder = read_part(top, "decoder", read_decoder);
  parts.model = read_part(top, "model", read_model);
  top.check(top.find("model") != nullptr, "model", "is missing");
  if (parts.model != nullptr) parts.added = read_added_tokens(top, parts.model->vocabulary());
  top.find("added_tokens");
  top.require_no_more();
  faults.require_none();

  const PostProcessor* processor = parts.post_processor.get();
  auto tokenizer = std::make_unique<HuggingFaceTokenizer>(cat("tokenizer.json ", hash_text(text)),
                                                          std::move(parts));
  if (processor != nullptr) check_ids(*processor, *tokenizer, faults);
  faults.require_none();
  return tokenizer;
}

std::unique_ptr<Tokenizer> parse_gpt2_files(std::string_view vocabulary,
                                            std::string_view merges,
                                            const std::string& vocabulary_file,
                                            const std::string& merges_file) {
  constexpr const char* kEndOfText = "<|endoftext|>";
  const Json json = parse_json(vocabulary, vocabulary_file, kMaxBytes);
  FileFaults faults(vocabulary_file);
  FileFaults merges_faults(merges_file);
  TokenizerParts parts;
  parts.model = read_bpe_of_two_files(json, merges, faults, merges_faults);
  faults.require_none();
  merges_faults.require_none();
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  JsonElement cut(byte_level, "", faults);
  parts.pre_tokenizer = read_pre_tokenizer(cut);
  JsonElement join(byte_level, "", faults);
  parts.decoder = read_decoder(join);
  const std::int32_t end = parts.model->vocabulary().find(kEndOfText);
  if (end >= 0)
    parts.added.push_back({.id = end,
                           .content = kEndOfText,
                           .special = true,
                           .normalized = false,
                           .single_word = false,
                           .lstrip = false,
                           .rstrip = false,
                           .pattern = ""});
  return std::make_unique<HuggingFaceTokenizer>(
      cat("GPT-2's files ", hash_text(vocabulary, merges)), std::move(parts));
}

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path) {
  if (!fs::is_directory(path)) return parse_tokenizer_json(read_file(path), path);
  const fs::path folder = path;
  const std::string json = (folder / "tokenizer.json").string();
  if (fs::exists(json)) return parse_tokenizer_json(read_file(json), json);
  for (const auto& [vocabulary, merges] :
       {std::pair{"vocab.json", "merges.txt"}, std::pair{"encoder.json", "vocab.bpe"}}) {
    const std::string first = (folder / vocabulary).string();
    const std::string second = (folder / merges).string();
    if (fs::exists(first) && fs::exists(second))
      return parse_gpt2_files(read_file(first), read_file(second), first, second);
  }
  throw UsageError(cat(path,
                       " holds no tokenizer: neither tokenizer.json, nor vocab.json with "
                       "merges.txt, nor encoder.json with vocab.bpe"));
}

}  // namespace headrace
