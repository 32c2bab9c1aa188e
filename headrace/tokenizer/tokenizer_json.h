// Tokenizers out of the files of others: Hugging Face's tokenizer.json, GPT-2's two files.
//
//   auto tokenizer = open_tokenizer("SmolLM2-135M");   // the folder, or its tokenizer.json
//   tokenizer->encode("Is it so?");                    // the ids of the `tokenizers` package
//
// Read are models BPE and WordPiece, and the normalizers, pre-tokenizers, post-processors and decoders
// that read_normalizer, read_pre_tokenizer, … list. What is not understood is refused, all of it at
// once: UsageError names the file, and each place with what is known there. So are a vocabulary with a
// hole, merges of unknown tokens, added tokens whose ids the package would give otherwise. JSON that
// is none is an Error with its byte.
//
// The same ids as the package's for all that Unicode 14 has; of newer characters the class may differ,
// as the libraries on both sides have tables of their own. `truncation` and `padding` are ignored: ids
// are those of the package after no_truncation() and no_padding(). One known difference: Metaspace with
// prepend_scheme "first" behind a normalizer that takes away a text's beginning (Strip, say) marks what
// is then the beginning; the package does not.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "headrace/tokenizer/tokenizer.h"

namespace headrace {

// A file; or a folder that holds tokenizer.json, or vocab.json with merges.txt, or encoder.json with
// vocab.bpe, the first of these that is there.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path);

// The text of a tokenizer.json; `file` stands in messages.
std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view text, const std::string& file);

// GPT-2's: {"token": id, …}, and two tokens a line. Its end of text is the one special token. The
// names stand in messages.
std::unique_ptr<Tokenizer> parse_gpt2_files(std::string_view vocabulary,
                                            std::string_view merges,
                                            const std::string& vocabulary_file,
                                            const std::string& merges_file);

}  // namespace headrace
