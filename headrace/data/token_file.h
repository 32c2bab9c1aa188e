// A file of token ids, memory-mapped: docs/formats.md's "Token file" (magic, version, id width,
// vocabulary, count, checksum; then the ids, little-endian). Written whole or not at all.
//
//   write_token_file("text.tokens", ids, 256);
//   const TokenFile file("text.tokens");
//
// Throws Error, naming the file, for one that is missing, cut short, of another format or version,
// or whose checksum is wrong; and for an id outside the vocabulary, naming its position and value.
// An open TokenFile may be read from several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

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
  // Of header and ids: equal files have equal checksums, whatever they are called.
  std::uint64_t checksum() const { return checksum_; }
  // Copies tokens [begin, begin + out.size()) to `out`.
  void read(std::int64_t begin, std::span<std::int64_t> out) const;
  // Throws Error, naming file, position and id, where an id is not below `vocabulary`.
  void require_below(int vocabulary) const;

 private:
  void parse();  // what the constructor does once the file is mapped

  std::filesystem::path path_;
  const std::byte* map_ = nullptr;
  std::size_t mapped_ = 0;
  std::int64_t size_ = 0;
  int width_ = 0;  // bytes an id
  int vocabulary_ = 0;
  std::uint64_t checksum_ = 0;
};

// Writes a token file piece by piece, under a temporary name in the same folder until finish().
class TokenWriter {
 public:
  TokenWriter(const std::filesystem::path& path, int vocabulary);
  ~TokenWriter();  // removes what was not finished
  TokenWriter(const TokenWriter&) = delete;
  TokenWriter& operator=(const TokenWriter&) = delete;

  void append(std::span<const std::int32_t> tokens);
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

void write_token_file(const std::filesystem::path& path,
                      std::span<const std::int32_t> tokens,
                      int vocabulary);

}  // namespace headrace
