// Bytes as printable characters, so that a vocabulary of bytes can be written as text: one that is
// printable in Latin-1 is itself, the others are U+0100 and on (Radford et al. 2019, "Language Models
// are Unsupervised Multitask Learners").
//
//   to_byte_level(" a\n") == "ĠaĊ";
#pragma once

#include <string>
#include <string_view>

namespace headrace {

std::string to_byte_level(std::string_view bytes);
void append_byte_level(std::string& text, std::string_view bytes);

// The bytes that a token stands for; its own where a character of it stands for none.
void append_from_byte_level(std::string& bytes, std::string_view token);

}  // namespace headrace
