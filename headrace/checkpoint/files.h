// Files of a checkpoint, written so that they last and read by mapping them. All of it throws Error
// that names the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace headrace {

// XXH3-128 of bytes that come piece by piece.
class Checksum {
 public:
  Checksum();
  ~Checksum();
  Checksum(Checksum&&) noexcept;
  Checksum& operator=(Checksum&&) = delete;

  void add(std::span<const std::byte> bytes);
  std::string text() const;  // 32 hexadecimal digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Of all of them.
std::string checksum_of(std::span<const std::byte> bytes);

// What is known of a file that was written.
struct FileRecord {
  std::string name;  // without the folder
  std::uint64_t bytes = 0;
  std::string checksum;
  // Of a safetensors file: the checksum of each tensor's bytes, by its name.
  std::map<std::string, std::string> tensors;

  bool operator==(const FileRecord&) const = default;
};

// A file of that name is replaced. What is not finished stays behind, for whoever cleans the folder.
class FileWriter {
 public:
  explicit FileWriter(const std::filesystem::path& path);
  ~FileWriter();
  FileWriter(FileWriter&&) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;

  void append(std::span<const std::byte> bytes);
  void append(std::string_view text);
  FileRecord finish();  // fsync, close

 private:
  struct State;
  std::unique_ptr<State> state_;
};

FileRecord write_durably(const std::filesystem::path& path, std::string_view text);
// The names in it are on disk too.
void sync_folder(const std::filesystem::path& folder);

class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

}  // namespace headrace
