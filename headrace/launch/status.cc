#include "headrace/launch/status.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

using Words = std::array<std::uint64_t, 3>;

}  // namespace

// A cache line each, so that ranks do not slow one another. All zero is what a rank that has noted
// nothing looks like: step and stage are kept one higher.
struct alignas(64) StatusPage::Slot {
  std::atomic<std::uint64_t> phase;
  std::atomic<std::int64_t> step;
  std::atomic<std::int64_t> stage;
  std::array<std::atomic<std::uint64_t>, 3> action;
};

std::string who(int rank, const Status& status) {
  return status.stage < 0 ? cat("rank ", rank) : cat("rank ", rank, " (stage ", status.stage, ")");
}

std::string where(const Status& status) {
  switch (status.phase) {
    case Phase::Starting:
      return "while starting";
    case Phase::Loading:
      return "while loading";
    case Phase::Ending:
      return "while ending";
    case Phase::Training:
    case Phase::Evaluating:
    case Phase::Saving:
      break;
  }
  std::string text = status.step < 0 ? "before step 1" : cat("at step ", status.step);
  if (status.phase == Phase::Evaluating) text += ", in evaluation";
  if (status.phase == Phase::Saving) text += ", while saving";
  if (!status.action.empty()) text += ", during " + status.action;
  return text;
}

StatusPage StatusPage::create(int ranks) {
  const int fd = ::memfd_create("headrace-status", MFD_CLOEXEC);
  check(fd >= 0, "cannot make the status page: ", std::strerror(errno));
  const auto size = static_cast<off_t>(sizeof(Slot)) * ranks;
  check(::ftruncate(fd, size) == 0, "cannot make the status page: ", std::strerror(errno));
  return {fd, ranks};
}

StatusPage StatusPage::from_environment(int ranks) {
  const char* text = std::getenv("HEADRACE_STATUS_FD");
  int fd = -1;
  struct stat status{};
  const bool good =
      text != nullptr && std::from_chars(text, text + std::strlen(text), fd).ec == std::errc() &&
      ::fstat(fd, &status) == 0 && status.st_size == static_cast<off_t>(sizeof(Slot)) * ranks;
  return good ? StatusPage(fd, ranks) : create(ranks);
}

StatusPage::StatusPage(int fd, int ranks) : fd_(fd), ranks_(ranks), slots_(nullptr) {
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "slots are shared by processes");
  void* map = ::mmap(nullptr, sizeof(Slot) * static_cast<std::size_t>(ranks),
                     PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  check(map != MAP_FAILED, "cannot map the status page: ", std::strerror(errno));
  slots_ = static_cast<Slot*>(map);
}

StatusPage::StatusPage(StatusPage&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      ranks_(other.ranks_),
      slots_(std::exchange(other.slots_, nullptr)) {}

StatusPage::~StatusPage() {
  if (slots_ != nullptr) ::munmap(slots_, sizeof(Slot) * static_cast<std::size_t>(ranks_));
  if (fd_ >= 0) ::close(fd_);
}

StatusPage::Slot& StatusPage::slot(int rank) const {
  assert(rank >= 0 && rank < ranks_);
  return slots_[rank];
}

void StatusPage::note_phase(int rank, Phase phase) {
  slot(rank).phase.store(static_cast<std::uint64_t>(phase), std::memory_order_relaxed);
}

void StatusPage::note_step(int rank, std::int64_t step) {
  slot(rank).step.store(step + 1, std::memory_order_relaxed);
}

void StatusPage::note_stage(int rank, int stage) {
  slot(rank).stage.store(stage + 1, std::memory_order_relaxed);
}

void StatusPage::note_action(int rank, std::string_view action) {
  Words words{};
  std::memcpy(words.data(), action.data(), std::min(action.size(), sizeof words));
  Slot& to = slot(rank);
  for (std::size_t i = 0; i < words.size(); ++i)
    to.action[i].store(words[i], std::memory_order_relaxed);
}

Status StatusPage::read(int rank) const {
  const Slot& from = slot(rank);
  Status status;
  const std::uint64_t phase = from.phase.load(std::memory_order_relaxed);
  status.phase = static_cast<Phase>(std::min(phase, static_cast<std::uint64_t>(Phase::Ending)));
  status.step = from.step.load(std::memory_order_relaxed) - 1;
  status.stage = static_cast<int>(from.stage.load(std::memory_order_relaxed) - 1);
  std::array<char, sizeof(Words) + 1> text{};
  for (std::size_t i = 0; i < from.action.size(); ++i) {
    const std::uint64_t word = from.action[i].load(std::memory_order_relaxed);
    std::memcpy(text.data() + i * sizeof word, &word, sizeof word);
  }
  status.action = text.data();
  return status;
}

}  // namespace headrace
