#include "headrace/launch/run_claim.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLock = ".lock";
constexpr const char* kConfig = kRunFiles[0];

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Files that the run would replace and that no run has written. Those of a run come with its
// config.toml.
std::vector<std::string> foreign_files(const fs::path& folder) {
  std::vector<std::string> found;
  if (first_line(folder / kConfig) == kRunMark) return found;
  for (const char* name : kRunFiles)
    if (fs::exists(folder / name)) found.emplace_back(name);
  return found;
}

bool has_records(const fs::path& folder) {
  // Before them come only files of what is going to be done.
  return std::any_of(kRunFiles.begin() + 2, kRunFiles.end(), [&](const char* name) {
    std::error_code ignored;
    return fs::exists(folder / name) && !fs::is_empty(folder / name, ignored);
  });
}

// Nothing but what a run wrote that did not come to its first record.
bool is_unused(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (name != kLock && std::find(kRunFiles.begin(), kRunFiles.end(), name) == kRunFiles.end())
      return false;
  }
  return foreign_files(folder).empty() && !has_records(folder);
}

void make(const fs::path& folder) {
  std::error_code failed;
  fs::create_directories(folder, failed);
  check(!failed, "cannot make the run's folder ", folder.string(), ": ", failed.message(),
        "; choose another with --run-dir");
}

// The descriptor with the lock, or -1 where there are no locks; none where another run has it.
std::optional<int> lock(const fs::path& folder) {
  const fs::path path = folder / kLock;
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  check(fd >= 0, "cannot write ", path.string(), ": ", std::strerror(errno),
        "; choose another folder with --run-dir");
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) {
    // For whoever is refused; a hold without a name is one all the same.
    std::array<char, 256> host{};
    ::gethostname(host.data(), host.size() - 1);
    const std::string holder = cat("process ", ::getpid(), " of host ", host.data(), '\n');
    if (::ftruncate(fd, 0) == 0) (void)!::write(fd, holder.data(), holder.size());
    return fd;
  }
  const int why = errno;
  ::close(fd);
  if (why == EWOULDBLOCK) return std::nullopt;
  check(why == ENOSYS || why == EOPNOTSUPP || why == ENOLCK, "cannot lock ", path.string(), ": ",
        std::strerror(why), "; choose another folder with --run-dir");
  return -1;
}

}  // namespace

RunClaim::RunClaim(fs::path folder, int fd) : folder_(std::move(folder)), fd_(fd) {}

RunClaim::RunClaim(RunClaim&& other) noexcept
    : folder_(std::move(other.folder_)), fd_(std::exchange(other.fd_, -1)) {}

RunClaim& RunClaim::operator=(RunClaim&& other) noexcept {
  std::swap(folder_, other.folder_);
  std::swap(fd_, other.fd_);
  return *this;
}

RunClaim::~RunClaim() {
  if (fd_ >= 0) ::close(fd_);
}

void clear_run(const fs::path& folder) {
  std::error_code ignored;
  for (const char* file : kRunFiles)
    if (file != std::string_view(kConfig)) fs::remove_all(folder / file, ignored);
}

RunClaim RunClaim::resumed(const fs::path& folder) {
  check_usage(first_line(folder / kConfig) == kRunMark, folder.string(),
              " is no run's folder: it holds no ", kConfig, " that a run wrote");
  const std::optional<int> fd = lock(folder);
  check_usage(fd.has_value(), "a run is under way in ", folder.string(), " (",
              first_line(folder / kLock), "); it cannot be resumed before it has ended");
  return RunClaim(folder, *fd);
}

RunClaim RunClaim::named(const fs::path& folder, bool overwrite) {
  const std::vector<std::string> foreign = foreign_files(folder);
  check_usage(foreign.empty(), folder.string(), " holds ", join_text(foreign, ", "),
              ", which no run wrote and this one would replace; choose another folder with "
              "--run-dir");
  make(folder);
  const std::optional<int> fd = lock(folder);
  check_usage(fd.has_value(), "a run is under way in ", folder.string(), " (",
              first_line(folder / kLock), "); choose another folder with --run-dir");
  RunClaim claim(folder, *fd);
  check_usage(overwrite || !has_records(folder), folder.string(),
              " holds an earlier run; choose another folder with --run-dir, or delete that run's "
              "files with --overwrite");
  return claim;
}

RunClaim RunClaim::next(const fs::path& folder) {
  fs::path path = folder;
  for (int number = 2;; ++number) {
    if (!fs::exists(path) || is_unused(path)) {
      make(path);
      if (const std::optional<int> fd = lock(path)) {
        RunClaim claim(path, *fd);
        if (is_unused(path)) return claim;  // still, now that no other run can come
      }
    }
    path = cat(folder.string(), '-', number);
  }
}

}  // namespace headrace
