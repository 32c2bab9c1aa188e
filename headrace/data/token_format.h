// The header of a token file, byte for byte as docs/formats.md says. For token_file.cc and
// token_writer.cc alone.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace headrace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

struct TokenHeader {
  std::array<char, 8> magic = {'H', 'R', 'T', 'O', 'K', 'E', 'N', 'S'};
  std::uint32_t version = 1;
  std::uint32_t width = 0;
  std::uint64_t vocabulary = 0;
  std::uint64_t count = 0;
  // Last, and left out of itself: XXH3-64 of the ids followed by the 32 bytes above. The ids come
  // first, so that a writer needs to know the count only at the end.
  std::uint64_t checksum = 0;
};
constexpr std::size_t kChecked = 32;
static_assert(sizeof(TokenHeader) == kChecked + sizeof(std::uint64_t));

}  // namespace headrace
