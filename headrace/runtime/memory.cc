#include "headrace/runtime/memory.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

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

void release(void* context) {
  const std::unique_ptr<Booking> booking(static_cast<Booking*>(context));
  booking->account->add(-booking->bytes);
}

class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* behind) : behind_(behind) {}

  c10::DataPtr allocate(std::size_t bytes) override {
    c10::DataPtr data = behind_->allocate(bytes);
    void* address = data.get();
    const c10::Device device = data.device();
    MemoryAccount& account = memory_account();
    account.add(static_cast<std::int64_t>(bytes));
    auto* booking = new Booking{std::move(data), &account, static_cast<std::int64_t>(bytes)};
    return {address, booking, &release, device};
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
