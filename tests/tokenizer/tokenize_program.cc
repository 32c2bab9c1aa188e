// tokenize_program PATH: for tokenizers_test.py. Texts come on stdin, each after its length (u32); for
// each there go out the ids (their number, then each, u32), those with special tokens, the text that
// the former decode to, and the latter's without special tokens (lengths u32).
//
// tokenize_program PATH --time FILE: seconds to read the tokenizer, and to encode the file's text.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/base/file.h"
#include "headrace/tokenizer/tokenizer.h"

namespace headrace {
namespace {

void write_number(std::size_t number) {
  const auto value = static_cast<std::uint32_t>(number);
  std::fwrite(&value, sizeof value, 1, stdout);
}

void write_ids(const std::vector<std::int32_t>& ids) {
  write_number(ids.size());
  std::fwrite(ids.data(), sizeof(std::int32_t), ids.size(), stdout);
}

void write_text(const std::string& text) {
  write_number(text.size());
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void answer(const Tokenizer& tokenizer) {
  std::uint32_t size = 0;
  while (std::fread(&size, sizeof size, 1, stdin) == 1) {
    std::string text(size, '\0');
    if (std::fread(text.data(), 1, size, stdin) != size) return;
    const auto plain = tokenizer.encode(text);
    const auto special = tokenizer.encode(text, SpecialTokens::With);
    write_ids(plain);
    write_ids(special);
    write_text(tokenizer.decode(plain));
    write_text(tokenizer.decode(special, SpecialTokens::Without));
    std::fflush(stdout);
  }
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int run(const std::vector<std::string>& arguments) {
  const double begin = now();
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(arguments.at(1));
  const double opened = now();
  if (arguments.size() == 2) {
    answer(*tokenizer);
    return 0;
  }
  const std::string text = read_file(arguments.at(3));
  const double read = now();
  const std::size_t count = tokenizer->encode(text).size();
  const double encoded = now();
  std::cout << opened - begin << " " << encoded - read << " " << text.size() << " " << count
            << "\n";
  return 0;
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
  try {
    return headrace::run({argv, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
