// Any bytes as a token file: as they stand, and with the checksum made right, behind which chance
// never gets. Every id of what is accepted is below the vocabulary.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "headrace/base/error.h"
#include "headrace/data/token_file.h"
#include "headrace/data/token_format.h"
#include "tests/fuzz/text.h"

namespace headrace {
namespace {

// A file in memory, which the reader opens by its path.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("fuzz", 0)), path_("/proc/self/fd/" + std::to_string(fd_)) {
    require(fd_ >= 0);
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  const std::string& write(std::span<const std::uint8_t> bytes) {
    require(::ftruncate(fd_, 0) == 0);
    require(::pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return path_;
  }

 private:
  int fd_;
  std::string path_;
};

void read(std::span<const std::uint8_t> bytes) {
  static MemoryFile memory;
  try {
    const TokenFile file(memory.write(bytes));
    std::vector<std::int64_t> ids(static_cast<std::size_t>(file.size()));
    file.read(0, ids);
    for (const std::int64_t id : ids) require(id >= 0 && id < file.vocabulary());
  } catch (const Error&) {  // refused
  }
}

}  // namespace
}  // namespace headrace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  headrace::read({data, size});
  if (size < sizeof(headrace::TokenHeader)) return 0;
  std::vector<std::uint8_t> bytes(data, data + size);
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, data + sizeof(headrace::TokenHeader),
                     size - sizeof(headrace::TokenHeader));
  XXH3_64bits_update(&state, data, headrace::kChecked);
  const std::uint64_t checksum = XXH3_64bits_digest(&state);
  std::memcpy(bytes.data() + headrace::kChecked, &checksum, sizeof checksum);
  headrace::read(bytes);
  return 0;
}
