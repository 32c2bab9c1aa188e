#include "headrace/data/token_file.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "headrace/base/error.h"
#include "headrace/data/token_format.h"

namespace headrace {
namespace {

template <class Id>
void widen(const std::byte* from, std::span<std::int64_t> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Id id;
    std::memcpy(&id, from + i * sizeof(Id), sizeof(Id));
    out[i] = static_cast<std::int64_t>(id);
  }
}

std::uint64_t checksum_of(const TokenHeader& header, std::span<const std::byte> ids) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, ids.data(), ids.size());
  XXH3_64bits_update(&state, &header, kChecked);
  return XXH3_64bits_digest(&state);
}

}  // namespace

TokenFile::TokenFile(const std::filesystem::path& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(fd >= 0, "cannot open token file ", path.string(), ": ", std::strerror(errno));
  struct stat status{};
  const bool known = ::fstat(fd, &status) == 0;
  const bool regular = known && S_ISREG(status.st_mode);
  void* map = MAP_FAILED;
  int error = errno;
  if (regular && status.st_size > 0) {
    mapped_ = static_cast<std::size_t>(status.st_size);
    map = ::mmap(nullptr, mapped_, PROT_READ, MAP_SHARED, fd, 0);
    error = errno;
  }
  ::close(fd);
  check(regular, path.string(), " is not a token file: it is a folder or a device");
  check(status.st_size > 0, path.string(), " is not a token file: it is empty");
  check(map != MAP_FAILED, "cannot map token file ", path.string(), ": ", std::strerror(error));
  map_ = static_cast<const std::byte*>(map);
  try {
    parse();
  } catch (...) {
    ::munmap(map, mapped_);
    throw;
  }
}

TokenFile::~TokenFile() {
  ::munmap(const_cast<std::byte*>(map_), mapped_);  // NOLINT: munmap takes no pointer to const
}

void TokenFile::parse() {
  TokenHeader header;
  const TokenHeader expected;
  const std::size_t magic = std::min(mapped_, sizeof header.magic);
  check(std::memcmp(map_, expected.magic.data(), magic) == 0, path_.string(),
        " is not a token file: it does not begin with HRTOKENS; is it a text, to be given as one?");
  check(mapped_ >= sizeof header, path_.string(), " is cut short: it has ", mapped_,
        " bytes and a token file at least ", sizeof header, "; make it again");
  std::memcpy(&header, map_, sizeof header);
  check(header.version == expected.version, path_.string(), " is of version ", header.version,
        " of the token file format, and this program reads version ", expected.version,
        "; make it again");
  check(header.width == 1 || header.width == 2 || header.width == 4, path_.string(),
        " is damaged: its ids are said to have ", header.width, " bytes; make it again");
  const std::size_t ids = mapped_ - sizeof header;
  // By division, so that no count, however large, overflows.
  check(ids % header.width == 0 && ids / header.width == header.count, path_.string(),
        ids / header.width < header.count ? " is cut short: " : " is damaged: ", "it has ", ids,
        " bytes of ids, and its header says ", header.count, " ids of ", header.width,
        " bytes; make it again");
  check(checksum_of(header, {map_ + sizeof header, ids}) == header.checksum, path_.string(),
        " is damaged: its checksum is wrong; make it again");
  check(header.vocabulary >= 1 && header.vocabulary <= std::numeric_limits<std::int32_t>::max(),
        path_.string(), " has a vocabulary of ", header.vocabulary, "; it must be 1 to 2147483647");
  size_ = static_cast<std::int64_t>(header.count);
  width_ = static_cast<int>(header.width);
  vocabulary_ = static_cast<int>(header.vocabulary);
  checksum_ = header.checksum;
  require_below(vocabulary_);
}

void TokenFile::read(std::int64_t begin, std::span<std::int64_t> out) const {
  assert(begin >= 0 && begin + static_cast<std::int64_t>(out.size()) <= size_);
  const std::byte* from = map_ + sizeof(TokenHeader) + begin * width_;
  if (width_ == 1) {
    widen<std::uint8_t>(from, out);
  } else if (width_ == 2) {
    widen<std::uint16_t>(from, out);
  } else {
    widen<std::uint32_t>(from, out);
  }
}

void TokenFile::require_below(int vocabulary) const {
  if (width_ == 1 && vocabulary > std::numeric_limits<std::uint8_t>::max()) return;
  if (width_ == 2 && vocabulary > std::numeric_limits<std::uint16_t>::max()) return;
  std::array<std::int64_t, 4096> piece{};
  for (std::int64_t at = 0; at < size_;) {
    const std::int64_t n = std::min<std::int64_t>(size_ - at, piece.size());
    const std::span<std::int64_t> ids(piece.data(), static_cast<std::size_t>(n));
    read(at, ids);
    for (std::size_t i = 0; i < ids.size(); ++i)
      check(ids[i] < vocabulary, path_.string(), ": token ", at + static_cast<std::int64_t>(i),
            " has id ", ids[i], ", and the vocabulary has ", vocabulary,
            " ids; the file was made for another model or tokenizer");
    at += n;
  }
}

}  // namespace headrace
