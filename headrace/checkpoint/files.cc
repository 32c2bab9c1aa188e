#include "headrace/checkpoint/files.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "headrace/base/error.h"

namespace headrace {

struct Checksum::State {
  XXH3_state_t hash;
};

Checksum::Checksum() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(&state_->hash);
}

Checksum::~Checksum() = default;
Checksum::Checksum(Checksum&&) noexcept = default;

void Checksum::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(&state_->hash, bytes.data(), bytes.size());
}

std::string Checksum::text() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state_->hash));
  std::string text;
  for (const unsigned char byte : canonical.digest) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string checksum_of(std::span<const std::byte> bytes) {
  Checksum checksum;
  checksum.add(bytes);
  return checksum.text();
}

struct FileWriter::State {
  std::filesystem::path path;
  int fd = -1;
  std::uint64_t bytes = 0;
  Checksum checksum;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (fd >= 0) ::close(fd);
  }

  void require(bool ok) const {
    check(ok, "cannot write ", path.string(), ": ", std::strerror(errno));
  }
};

FileWriter::FileWriter(const std::filesystem::path& path) : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  state_->require(state_->fd >= 0);
}

FileWriter::~FileWriter() = default;
FileWriter::FileWriter(FileWriter&&) noexcept = default;

void FileWriter::append(std::span<const std::byte> bytes) {
  // Piece by piece, so that what is summed up is still in the cache when it is written.
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  while (!bytes.empty()) {
    const std::span<const std::byte> piece = bytes.first(std::min(bytes.size(), kPiece));
    state_->checksum.add(piece);
    for (std::size_t done = 0; done < piece.size();) {
      const ssize_t n = ::write(state_->fd, piece.data() + done, piece.size() - done);
      if (n < 0 && errno == EINTR) continue;
      state_->require(n >= 0);
      done += static_cast<std::size_t>(n);
    }
    state_->bytes += piece.size();
    bytes = bytes.subspan(piece.size());
  }
}

void FileWriter::append(std::string_view text) {
  append(std::as_bytes(std::span(text.data(), text.size())));
}

FileRecord FileWriter::finish() {
  state_->require(::fsync(state_->fd) == 0);
  state_->require(::close(std::exchange(state_->fd, -1)) == 0);
  return {state_->path.filename().string(), state_->bytes, state_->checksum.text()};
}

FileRecord write_durably(const std::filesystem::path& path, std::string_view text) {
  FileWriter file(path);
  file.append(text);
  return file.finish();
}

void sync_folder(const std::filesystem::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  check(fd >= 0, "cannot open ", folder.string(), ": ", std::strerror(errno));
  const bool ok = ::fsync(fd) == 0 || errno == EINVAL;  // file systems that keep no names to sync
  const int error = errno;
  ::close(fd);
  check(ok, "cannot write ", folder.string(), " to disk: ", std::strerror(error));
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not block
  check(fd >= 0, "cannot open ", path.string(), ": ", std::strerror(errno));
  struct stat status{};
  const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  const auto size = static_cast<std::size_t>(status.st_size);
  void* map = nullptr;
  if (regular && size > 0) map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  check(regular, path.string(), " is no file: it is a folder or a device");
  check(map != MAP_FAILED, "cannot map ", path.string(), ": ", std::strerror(error));
  if (map != nullptr) bytes_ = {static_cast<const std::byte*>(map), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty())
    ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());  // NOLINT: it takes no const
}

}  // namespace headrace
