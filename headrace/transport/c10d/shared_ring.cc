#include "headrace/transport/c10d/shared_ring.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <ctime>
#include <new>
#include <random>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <unistd.h>

#include "headrace/base/text.h"
#include "headrace/transport/transport.h"

namespace headrace {

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kRingBytes = std::size_t{1} << 22U;  // a power of two
constexpr std::size_t kAlign = 8;
constexpr const char* kName = "headrace-rings";
// A message that is about to come is not worth going to sleep for: waking up again takes longer,
// and costs the sender, which wakes this thread, as much as the message. Others that want this core
// get it meanwhile.
constexpr auto kSpin = std::chrono::milliseconds(1);

// The memory starts with a page that says whose it is.
struct Head {
  std::uint64_t magic = 0x31786f626c69616d;  // "mailbox1"
  std::uint64_t token = 0;
};

std::string link_text(const std::string& path) {
  std::array<char, 256> text{};
  const auto length = ::readlink(path.c_str(), text.data(), text.size() - 1);
  return {text.data(), length > 0 ? static_cast<std::size_t>(length) : 0};
}

void* map(int descriptor, std::size_t offset, std::size_t bytes) {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor,
                              static_cast<off_t>(offset));
  return memory == MAP_FAILED ? nullptr : memory;
}

std::size_t block_bytes() {
  return kChannels * Ring::bytes();
}

}  // namespace

// Each message: its length in 8 bytes, then itself, up to a multiple of 8. The counts are of all
// bytes ever written and read.
struct Ring::Shared {
  alignas(64) std::atomic<std::uint64_t> written = 0;
  alignas(64) std::atomic<std::uint64_t> read = 0;
  alignas(64) sem_t messages;
  alignas(kPage) std::array<char, kRingBytes> ring;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

namespace {

// Calls copy(place in the ring, offset in the message, bytes) for the pieces of a message at `at`:
// two where it goes around the end.
template <class Copy>
void around(std::array<char, kRingBytes>& ring, std::uint64_t at, std::size_t size, Copy copy) {
  const std::size_t start = at % kRingBytes;
  const std::size_t before_end = std::min(size, kRingBytes - start);
  if (before_end > 0) copy(ring.data() + start, std::size_t{0}, before_end);
  if (before_end < size) copy(ring.data(), before_end, size - before_end);
}

std::uint64_t room_for(std::uint64_t message) {
  return kAlign + (message + kAlign - 1) / kAlign * kAlign;
}

bool wait_for(sem_t& messages, std::chrono::milliseconds limit) {
  const auto end =
      std::chrono::steady_clock::now() + std::min<std::chrono::nanoseconds>(kSpin, limit);
  do {
    if (::sem_trywait(&messages) == 0) return true;
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < end);
  if (limit <= kSpin) return false;
  timespec until{};
  ::clock_gettime(CLOCK_MONOTONIC, &until);
  const auto nanoseconds = until.tv_nsec + std::chrono::nanoseconds(limit).count();
  until.tv_sec += nanoseconds / 1'000'000'000;
  until.tv_nsec = nanoseconds % 1'000'000'000;
  // A signal ends it early, as the limit does.
  return ::sem_clockwait(&messages, CLOCK_MONOTONIC, &until) == 0;
}

}  // namespace

std::size_t Ring::bytes() {
  static_assert(sizeof(Shared) % kPage == 0);
  return sizeof(Shared);
}

void Ring::initialise(void* memory) {
  auto* const shared = new (memory) Shared;
  ::sem_init(&shared->messages, /*pshared=*/1, 0);
}

bool Ring::try_put(const torch::Tensor& message) {
  const std::uint64_t at = shared_->written.load(std::memory_order_relaxed);
  const std::uint64_t used = at - shared_->read.load(std::memory_order_acquire);
  const auto length = static_cast<std::uint64_t>(message.numel());
  const auto* const flat = static_cast<const char*>(message.const_data_ptr());
  if (used + room_for(length) > kRingBytes) return false;
  std::memcpy(shared_->ring.data() + at % kRingBytes, &length, sizeof length);
  around(shared_->ring, at + kAlign, length, [&](char* ring, std::size_t from, std::size_t count) {
    std::memcpy(ring, flat + from, count);
  });
  shared_->written.store(at + room_for(length), std::memory_order_release);
  ::sem_post(&shared_->messages);
  return true;
}

torch::Tensor Ring::take(std::chrono::milliseconds limit) {
  if (!wait_for(shared_->messages, limit)) return {};
  const std::uint64_t at = shared_->read.load(std::memory_order_relaxed);
  std::uint64_t length = 0;
  std::memcpy(&length, shared_->ring.data() + at % kRingBytes, sizeof length);
  torch::Tensor message = torch::empty({static_cast<std::int64_t>(length)}, torch::kUInt8);
  auto* const flat = static_cast<char*>(message.mutable_data_ptr());
  around(shared_->ring, at + kAlign, length, [&](char* ring, std::size_t from, std::size_t count) {
    std::memcpy(flat + from, ring, count);
  });
  shared_->read.store(at + room_for(length), std::memory_order_release);
  return message;
}

SharedRings::SharedRings(int rank, int size)
    : rank_(rank),
      size_(size),
      token_((std::uint64_t{std::random_device()()} << 32U) + std::random_device()()),
      theirs_(static_cast<std::size_t>(size)) {
  memory_ = ::memfd_create(kName, MFD_CLOEXEC);
  const std::size_t bytes = kPage + static_cast<std::size_t>(size) * block_bytes();
  if (memory_ < 0 || ::ftruncate(memory_, static_cast<off_t>(bytes)) != 0) return;
  own_ = static_cast<char*>(map(memory_, 0, bytes));
  if (own_ == nullptr) return;
  new (own_) Head{.token = token_};
  for (std::size_t at = kPage; at < bytes; at += Ring::bytes()) Ring::initialise(own_ + at);
}

SharedRings::~SharedRings() {
  if (own_ != nullptr) ::munmap(own_, kPage + static_cast<std::size_t>(size_) * block_bytes());
  for (char* each : theirs_)
    if (each != nullptr) ::munmap(each, block_bytes());
  if (memory_ >= 0) ::close(memory_);
}

std::string SharedRings::address() const {
  if (own_ == nullptr) return "";
  return cat(link_text("/proc/self/ns/pid"), " ", ::getpid(), " ", memory_, " ", token_);
}

bool SharedRings::attach(int peer, const std::string& address) {
  std::istringstream words(address);
  std::string space;
  int process = 0, descriptor = -1;
  std::uint64_t token = 0;
  words >> space >> process >> descriptor >> token;
  if (!words || space != link_text("/proc/self/ns/pid")) return false;
  const std::string path = cat("/proc/", process, "/fd/", descriptor);
  // Opening what is not ours might do something to it.
  if (!link_text(path).starts_with(cat("/memfd:", kName))) return false;
  const int memory = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (memory < 0) return false;
  Head head{.magic = 0};
  char* block = nullptr;
  if (::pread(memory, &head, sizeof head, 0) == sizeof head && head.magic == Head().magic &&
      head.token == token)
    block = static_cast<char*>(
        map(memory, kPage + static_cast<std::size_t>(rank_) * block_bytes(), block_bytes()));
  ::close(memory);
  theirs_[static_cast<std::size_t>(peer)] = block;
  return block != nullptr;
}

Ring SharedRings::from(int peer, std::size_t channel) {
  return Ring(reinterpret_cast<Ring::Shared*>(
      own_ + kPage + static_cast<std::size_t>(peer) * block_bytes() + channel * Ring::bytes()));
}

Ring SharedRings::to(int peer, std::size_t channel) {
  char* const block = theirs_[static_cast<std::size_t>(peer)];
  return Ring(reinterpret_cast<Ring::Shared*>(block + channel * Ring::bytes()));
}

}  // namespace headrace
