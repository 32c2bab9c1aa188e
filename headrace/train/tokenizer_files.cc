#include "headrace/train/tokenizer_files.h"

#include <array>
#include <filesystem>

#include "headrace/base/file.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

constexpr std::array kFiles = {
    "tokenizer.json",    "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja",   "vocab.json",
    "merges.txt",        "encoder.json",          "vocab.bpe",
    "vocab.txt",         "generation_config.json"};

}  // namespace

std::map<std::string, std::string> tokenizer_files(const Config& config) {
  const fs::path named = config.data.tokenizer;
  std::map<std::string, std::string> files;
  if (fs::is_regular_file(named)) files["tokenizer.json"] = read_file(named.string());
  const fs::path folder = fs::is_directory(named)      ? named
                          : fs::is_regular_file(named) ? named.parent_path()
                                                       : fs::path(config.model.from);
  for (const char* name : kFiles)
    if (const fs::path file = folder / name; !folder.empty() && fs::is_regular_file(file))
      files.emplace(name, read_file(file.string()));
  return files;
}

}  // namespace headrace
