// Text files to a token file, made once and kept in a cache.
//
//   std::shared_ptr<TokenFile> file =
//       tokens_from_text({"data/shakespeare/*.txt"}, *make_tokenizer("byte"), "data/cache");
//
// Any number of processes may ask for the same file at once: one makes it, the others wait for it
// and read it. A file is found again by the contents of the texts and the tokenizer; one that is
// damaged is made anew, and one that is not finished never has the name that is looked for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "headrace/data/token_file.h"
#include "headrace/tokenizer/tokenizer.h"

namespace headrace {

// The files that match, pattern by pattern, each pattern's in the order of their names, none twice.
// Throws UsageError for a pattern that matches nothing or a folder.
std::vector<std::filesystem::path> expand_patterns(const std::vector<std::string>& patterns);

// The texts of all files one after the other, after each the token `end`, if there is one. Throws Error where they are
// empty altogether.
std::shared_ptr<TokenFile> tokens_from_text(const std::vector<std::string>& patterns,
                                            const Tokenizer& tokenizer,
                                            const std::filesystem::path& cache_dir,
                                            std::optional<std::int32_t> end = {});

}  // namespace headrace
