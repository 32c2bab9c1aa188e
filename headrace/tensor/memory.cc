#include "headrace/tensor/memory.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <c10/core/CPUAllocator.h>
#include <malloc.h>

namespace headrace {
namespace {

thread_local MemoryAccount* current = nullptr;

// Stands before every tensor's memory, so that its address alone leads to whose it is: libtorch's
// contract for memory without a DataPtr (raw_allocate) leaves room for nothing else. As long as
// libtorch's alignment, which what follows keeps.
struct alignas(64) Booking {
  MemoryAccount* account;
  std::size_t bytes;  // as they were asked for
};

Booking* booking_of(void* address) {
  return static_cast<Booking*>(address) - 1;
}

// libtorch's own, behind ours: it reports to the profiler and says what it could not allocate.
c10::Allocator& default_allocator() {
  return *c10::GetDefaultCPUAllocator();
}

// Small blocks that were freed, for the next ones of their size: aligned memory of the C library
// costs more than what many an operation on a small tensor computes. One for each thread.
class SmallBlocks {
 public:
  static constexpr std::size_t kGrain = 64;
  static constexpr std::size_t kLargest = 8192;

  static bool takes(std::size_t bytes) { return bytes > 0 && bytes <= kLargest; }
  static std::size_t whole(std::size_t bytes) { return (bytes + kGrain - 1) / kGrain * kGrain; }

  SmallBlocks() = default;
  SmallBlocks(const SmallBlocks&) = delete;
  SmallBlocks& operator=(const SmallBlocks&) = delete;
  ~SmallBlocks() {
    for (const auto& shelf : shelves_)
      for (Booking* const block : shelf) default_allocator().raw_deallocate(block);
  }

  // Null where none of that size is left.
  Booking* take(std::size_t bytes) {
    auto& shelf = shelves_[whole(bytes) / kGrain - 1];
    if (shelf.empty()) return nullptr;
    Booking* const block = shelf.back();
    shelf.pop_back();
    return block;
  }
  // False where there are enough of that size.
  bool put(Booking* block) {
    auto& shelf = shelves_[whole(block->bytes) / kGrain - 1];
    if (shelf.size() >= kKept) return false;
    shelf.push_back(block);
    return true;
  }

 private:
  static constexpr std::size_t kKept = 64;
  std::array<std::vector<Booking*>, kLargest / kGrain> shelves_;
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

void release(void* address) {
  if (address == nullptr) return;  // of zero bytes
  Booking* const booking = booking_of(address);
  booking->account->add(-static_cast<std::int64_t>(booking->bytes));
  SmallBlocks* const blocks = SmallBlocks::takes(booking->bytes) ? small_blocks() : nullptr;
  if (blocks == nullptr || !blocks->put(booking)) default_allocator().raw_deallocate(booking);
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &release, cpu};
    const bool small = SmallBlocks::takes(bytes);
    SmallBlocks* const blocks = small ? small_blocks() : nullptr;
    Booking* booking = blocks != nullptr ? blocks->take(bytes) : nullptr;
    if (booking == nullptr) {
      const std::size_t whole = small ? SmallBlocks::whole(bytes) : bytes;
      // A size so great that the sum overflows is refused by the default allocator as it is.
      const std::size_t with_booking = std::max(whole, whole + sizeof(Booking));
      booking = static_cast<Booking*>(default_allocator().raw_allocate(with_booking));
    }
    booking->account = &memory_account();
    booking->bytes = bytes;
    booking->account->add(static_cast<std::int64_t>(bytes));
    void* const address = booking + 1;
    return {address, address, &release, cpu};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
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
    static CountingAllocator allocator;
    c10::SetCPUAllocator(&allocator, /*priority=*/100);
    return true;
  }();
  (void)installed;
}

}  // namespace headrace
