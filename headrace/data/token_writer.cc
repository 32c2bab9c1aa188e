#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "headrace/base/error.h"
#include "headrace/data/token_file.h"
#include "headrace/data/token_format.h"

namespace headrace {

struct TokenWriter::State {
  std::filesystem::path path;
  std::string temporary;
  int fd = -1;
  TokenHeader header;
  XXH3_state_t hash;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (fd >= 0) ::close(fd);
    if (!temporary.empty()) ::unlink(temporary.c_str());
  }

  void write(const void* data, std::size_t size) {
    const auto* from = static_cast<const std::byte*>(data);
    while (size > 0) {
      const ssize_t n = ::write(fd, from, size);
      if (n < 0 && errno == EINTR) continue;
      require(n >= 0);
      from += n;
      size -= static_cast<std::size_t>(n);
    }
  }
  void require(bool ok) const {
    check(ok, "cannot write ", path.string(), ": ", std::strerror(errno));
  }
};

TokenWriter::TokenWriter(const std::filesystem::path& path, int vocabulary)
    : state_(std::make_unique<State>()) {
  check(vocabulary >= 1, "cannot write ", path.string(), ": a vocabulary of ", vocabulary);
  state_->path = path;
  state_->header.vocabulary = static_cast<std::uint64_t>(vocabulary);
  state_->header.width = vocabulary <= 0x100 ? 1 : vocabulary <= 0x10000 ? 2 : 4;
  XXH3_64bits_reset(&state_->hash);
  std::string temporary = path.string() + ".XXXXXX";
  state_->fd = ::mkostemp(temporary.data(), O_CLOEXEC);
  state_->require(state_->fd >= 0);
  state_->temporary = temporary;
  // mkostemp's own mode would hide the file from everyone else.
  state_->require(::fchmod(state_->fd, 0644) == 0);
  state_->write(&state_->header, sizeof state_->header);  // its place; finish() fills it
}

TokenWriter::~TokenWriter() = default;

void TokenWriter::append(std::span<const std::int32_t> tokens) {
  const std::size_t width = state_->header.width;
  std::vector<std::byte> bytes(std::min<std::size_t>(tokens.size(), 1 << 16) * width);
  while (!tokens.empty()) {
    const std::size_t n = std::min(tokens.size(), bytes.size() / width);
    for (std::size_t i = 0; i < n; ++i) {
      const auto id = static_cast<std::uint32_t>(tokens[i]);
      check(id < state_->header.vocabulary, "cannot write ", state_->path.string(), ": token ",
            state_->header.count + i, " has id ", tokens[i], ", and the vocabulary has ",
            state_->header.vocabulary, " ids");
      std::memcpy(bytes.data() + i * width, &id, width);  // little-endian: the low bytes lead
    }
    XXH3_64bits_update(&state_->hash, bytes.data(), n * width);
    state_->write(bytes.data(), n * width);
    state_->header.count += n;
    tokens = tokens.subspan(n);
  }
}

void TokenWriter::finish() {
  State& state = *state_;
  XXH3_64bits_update(&state.hash, &state.header, kChecked);
  state.header.checksum = XXH3_64bits_digest(&state.hash);
  state.require(::lseek(state.fd, 0, SEEK_SET) == 0);
  state.write(&state.header, sizeof state.header);
  // On disk before it gets its name, so that no crash leaves a half-written file under it.
  state.require(::fsync(state.fd) == 0);
  state.require(::close(std::exchange(state.fd, -1)) == 0);
  state.require(::rename(state.temporary.c_str(), state.path.c_str()) == 0);
  state.temporary.clear();
}

void write_token_file(const std::filesystem::path& path,
                      std::span<const std::int32_t> tokens,
                      int vocabulary) {
  TokenWriter writer(path, vocabulary);
  writer.append(tokens);
  writer.finish();
}

}  // namespace headrace
