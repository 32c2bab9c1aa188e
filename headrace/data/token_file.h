// A file of token ids, memory-mapped: the format is docs/formats.md's "Token file" (magic, version,
// id width, vocabulary, count, checksum; then the ids, little-endian). Written whole or not at all.
//
// Throws Error, naming the file, for one that is missing, cut short, of another format or version,
// or whose checksum is wrong; and for an id outside the vocabulary, naming its position and value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace headrace {

class TokenFile {
 public:
  explicit TokenFile(const std::filesystem::path& path);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::int64_t size() const { return size_; }     // tokens
  int vocabulary() const { return vocabulary_; }  // ids are below this
  std::uint64_t checksum() const { return checksum_; }
  // Copies tokens [begin, begin + out.size()) to `out`.
  void read(std::int64_t begin, std::span<std::int64_t> out) const;
  // Throws Error, naming file, position and id, where an id is not below `vocabulary`.
  void require_below(int vocabulary) const;

 private:
  std::filesystem::path path_;
  const std::byte* map_ = nullptr;
  std::size_t mapped_ = 0;
  std::int64_t size_ = 0;
  int width_ = 0;
  int vocabulary_ = 0;
  std::uint64_t checksum_ = 0;
};

void write_token_file(const std::filesystem::path& path,
                      std::span<const std::int32_t> tokens,
                      int vocabulary);

}  // namespace headrace
