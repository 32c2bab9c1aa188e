#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/tokenizer/byte_tokenizer.h"
#include "headrace/tokenizer/tokenizer.h"
#include "headrace/tokenizer/tokenizer_json.h"

namespace headrace {

std::vector<std::string> tokenizer_names() {
  return {"byte"};
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name) {
  if (name == "byte") return std::make_unique<ByteTokenizer>();
  std::error_code ignored;
  if (std::filesystem::exists(name, ignored)) return open_tokenizer(name);
  const std::string near = nearest(name, tokenizer_names());
  throw UsageError(cat("there is no tokenizer '", name, "'",
                       near.empty() ? "" : cat("; did you mean '", near, "'?"),
                       " (known: ", join_text(tokenizer_names(), ", "),
                       ", or the path of a tokenizer.json or of the folder that holds it)"));
}

std::shared_ptr<const Tokenizer> shared_tokenizer(const std::string& name) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const Tokenizer>> all;
  const std::lock_guard lock(mutex);
  std::shared_ptr<const Tokenizer>& found = all[name];
  if (!found) found = make_tokenizer(name);
  return found;
}

}  // namespace headrace
