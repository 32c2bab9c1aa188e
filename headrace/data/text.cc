#include "headrace/data/text.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <glob.h>
#include <sys/file.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/data/token_file.h"
#include "headrace/tokenizer/tokenizer.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  check(file.is_open(), "cannot read ", path.string(), ": ", std::strerror(errno));
  if (file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  check(!file.bad() && !text.bad(), "cannot read ", path.string(), ": ", std::strerror(errno));
  return std::move(text).str();
}

// Contents rather than times decide: a text put back with an old date is another text.
std::string cache_name(const std::vector<fs::path>& files,
                       const Tokenizer& tokenizer,
                       std::optional<std::int32_t> end) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  const auto add = [&](const std::string& text) {
    const std::uint64_t size = text.size();
    XXH3_64bits_update(&state, &size, sizeof size);
    XXH3_64bits_update(&state, text.data(), text.size());
  };
  add(tokenizer.name());
  add(std::to_string(tokenizer.vocabulary()));
  if (end) add(cat("end ", *end));
  std::size_t bytes = 0;
  for (const fs::path& file : files) {
    const std::string text = contents(file);
    bytes += text.size();
    add(text);
  }
  check(bytes > 0, "text is empty: ", files.size(), " file(s), the first ", files.front().string(),
        ", hold not one byte");
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "%016llx.tokens",
                static_cast<unsigned long long>(XXH3_64bits_digest(&state)));
  return name.data();
}

// Held while a file is made, so that a machine makes it once. It only saves work (the rename alone
// keeps the cache right), so it gives up where the file system has no locks, and after a while.
class Lock {
 public:
  explicit Lock(const fs::path& path)
      : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::minutes(10);
    while (fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return;
      if (std::chrono::steady_clock::now() > limit) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    held_ = fd_ >= 0;
  }
  ~Lock() {
    if (fd_ >= 0) ::close(fd_);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  bool held() const { return held_; }

 private:
  int fd_;
  bool held_ = false;
};

// What processes that were killed half-way left behind. Only the holder of the lock may know that
// nobody is at work on them.
void remove_unfinished(const fs::path& cached) {
  const std::string begin = cached.filename().string() + ".";
  std::error_code ignored;
  std::vector<fs::path> unfinished;
  for (const auto& entry : fs::directory_iterator(cached.parent_path(), ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(begin) && name != begin + "lock") unfinished.push_back(entry.path());
  }
  for (const fs::path& path : unfinished) fs::remove(path, ignored);
}

// Null where there is none or it is damaged: then it has to be made.
std::shared_ptr<TokenFile> open_cached(const fs::path& path, const Tokenizer& tokenizer) {
  if (!fs::exists(path)) return nullptr;
  try {
    auto file = std::make_shared<TokenFile>(path);
    if (file->vocabulary() == tokenizer.vocabulary()) return file;
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): a cache may be thrown away
  }
  return nullptr;
}

}  // namespace

std::vector<fs::path> expand_patterns(const std::vector<std::string>& patterns) {
  std::vector<fs::path> files;
  for (const std::string& pattern : patterns) {
    glob_t found{};
    const int status =
        ::glob(pattern.c_str(), GLOB_BRACE | GLOB_TILDE | GLOB_NOSORT, nullptr, &found);
    std::vector<fs::path> matches(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    ::globfree(&found);
    check_usage(status == 0 && !matches.empty(), "text '", pattern,
                "': no file matches it (looked in ", fs::current_path().string(), ")");
    std::sort(matches.begin(), matches.end());
    for (const fs::path& match : matches) {
      check_usage(!fs::is_directory(match), "text '", pattern, "' matches the folder ",
                  match.string(), "; give its files, as ", (match / "*.txt").string());
      if (std::find(files.begin(), files.end(), match) == files.end()) files.push_back(match);
    }
  }
  check_usage(!files.empty(), "text names no file");
  return files;
}

std::shared_ptr<TokenFile> tokens_from_text(const std::vector<std::string>& patterns,
                                            const Tokenizer& tokenizer,
                                            const fs::path& cache_dir,
                                            std::optional<std::int32_t> end) {
  const std::vector<fs::path> files = expand_patterns(patterns);
  const fs::path cached = cache_dir / cache_name(files, tokenizer, end);
  if (auto file = open_cached(cached, tokenizer)) return file;

  std::error_code error;
  fs::create_directories(cache_dir, error);
  check(fs::is_directory(cache_dir), "cache: cannot make the folder ", cache_dir.string(), ": ",
        error.message());
  const Lock lock(cached.string() + ".lock");
  if (auto file = open_cached(cached, tokenizer)) return file;
  if (lock.held()) remove_unfinished(cached);
  TokenWriter writer(cached, tokenizer.vocabulary());
  for (const fs::path& file : files) {
    std::vector<std::int32_t> ids;
    try {
      ids = tokenizer.encode(contents(file));
    } catch (const Error& fault) {
      throw Error(cat(file.string(), ": ", fault.what()));
    }
    if (end) ids.push_back(*end);
    writer.append(ids);
  }
  writer.finish();
  return std::make_shared<TokenFile>(cached);
}

}  // namespace headrace
