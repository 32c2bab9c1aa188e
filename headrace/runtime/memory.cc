#include "headrace/runtime/memory.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <c10/core/CPUAllocator.h>
#include <malloc.h>

namespace headrace {
namespace {

thread_local MemoryAccount* current = nullptr;

// What stands behind a tensor's storage: the allocation itself and whose it is.
struct Booking {
  c10::DataPtr data;
  MemoryAccount* account;
  std::int64_t bytes;
};

// Small blocks that were freed, for the next ones of their size: aligned memory of the C library
// costs more than what many an operation on a small tensor computes. One for each thread.
class SmallBlocks {
 public:
  static constexpr std::size_t kGrain = 64;
  static constexpr std::size_t kLargest = 8192;

  static bool takes(std::size_t bytes) { return bytes > 0 && bytes <= kLargest; }
  static std::size_t whole(std::size_t bytes) { return (bytes + kGrain - 1) / kGrain * kGrain; }

  std::unique_ptr<Booking> take(std::size_t bytes) {
    auto& shelf = shelves_[whole(bytes) / kGrain - 1];
    if (shelf.empty()) return nullptr;
    auto booking = std::move(shelf.back());
    shelf.pop_back();
    return booking;
  }
  // Keeps it, or frees it where there are enough.
  void put(std::unique_ptr<Booking> booking) {
    auto& shelf = shelves_[whole(static_cast<std::size_t>(booking->bytes)) / kGrain - 1];
    if (shelf.size() < kKept) shelf.push_back(std::move(booking));
  }

 private:
  static constexpr std::size_t kKept = 64;
  std::array<std::vector<std::unique_ptr<Booking>>, kLargest / kGrain> shelves_;
};

// Null once the thread's own objects are being destroyed.
SmallBlocks* small_blocks() {
  thread_local bool gone = false;
  struct Owner {
    SmallBlocks blocks;
    ~Owner() { gone = true; }
  };
  if (gone) return nullptr;
  thread_local Owner owner;
  return &owner.blocks;
}

void release(void* context) {
  std::unique_ptr<Booking> booking(static_cast<Booking*>(context));
  booking->account->add(-booking->bytes);
  if (!SmallBlocks::takes(static_cast<std::size_t>(booking->bytes))) return;
  if (SmallBlocks* const blocks = small_blocks()) blocks->put(std::move(booking));
}

class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* behind) : behind_(behind) {}

  c10::DataPtr allocate(std::size_t bytes) override {
    MemoryAccount& account = memory_account();
    account.add(static_cast<std::int64_t>(bytes));
    std::unique_ptr<Booking> booking;
    const bool small = SmallBlocks::takes(bytes);
    SmallBlocks* const blocks = small ? small_blocks() : nullptr;
    if (blocks != nullptr) booking = blocks->take(bytes);
    if (!booking) {
      booking = std::make_unique<Booking>();
      booking->data = behind_->allocate(small ? SmallBlocks::whole(bytes) : bytes);
    }
    booking->account = &account;
    booking->bytes = static_cast<std::int64_t>(bytes);
    void* const address = booking->data.get();
    const c10::Device device = booking->data.device();
    return {address, booking.release(), &release, device};
  }

  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }

  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  c10::Allocator* behind_;
};

}  // namespace

void MemoryAccount::add(std::int64_t bytes) {
  const std::int64_t now = live_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  std::int64_t highest = peak_.load(std::memory_order_relaxed);
  while (now > highest && !peak_.compare_exchange_weak(highest, now, std::memory_order_relaxed)) {
  }
}

MemoryAccount& process_memory() {
  // Never destroyed: tensors of static lifetime may be freed after everything else.
  static auto* account = new MemoryAccount();
  return *account;
}

MemoryAccount& memory_account() {
  return current != nullptr ? *current : process_memory();
}

MemoryScope::MemoryScope(MemoryAccount& account) : before_(current) {
  current = &account;
}

MemoryScope::~MemoryScope() {
  current = before_;
}

void install_memory_accounts() {
  static const bool installed = [] {
    constexpr int kNever = 1 << 30;
    mallopt(M_MMAP_THRESHOLD, kNever);
    mallopt(M_TRIM_THRESHOLD, kNever);
    static CountingAllocator allocator(c10::GetCPUAllocator());
    c10::SetCPUAllocator(&allocator, /*priority=*/100);
    return true;
  }();
  (void)installed;
}

}  // namespace headrace
