// Counts the live bytes of CPU tensors, for each rank: libtorch keeps no such statistics. An
// allocator of our own stands in front of libtorch's and books every tensor to the account of the
// thread that made it, until it is freed, by whomever.
//
//   MemoryAccount account;
//   const MemoryScope scope(account);      // this thread's tensors are booked from here on
//   account.peak();
//
// Helper threads of a rank that is a process book to the process's account.
#pragma once

#include <atomic>
#include <cstdint>

namespace headrace {

class MemoryAccount {
 public:
  std::int64_t live() const { return live_.load(std::memory_order_relaxed); }
  std::int64_t peak() const { return peak_.load(std::memory_order_relaxed); }
  void reset_peak() { peak_.store(live(), std::memory_order_relaxed); }
  void add(std::int64_t bytes);

 private:
  std::atomic<std::int64_t> live_ = 0;
  std::atomic<std::int64_t> peak_ = 0;
};

// What no thread has claimed.
MemoryAccount& process_memory();
// The account this thread books to.
MemoryAccount& memory_account();

// Books this thread's tensors to an account, which must outlive them.
class MemoryScope {
 public:
  explicit MemoryScope(MemoryAccount& account);
  ~MemoryScope();
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

 private:
  MemoryAccount* before_;
};

// Puts the counting allocator in place and keeps freed memory in the process (large tensors come
// and go with every microbatch; giving their pages back and faulting them in again costs more than
// a tenth of a step; each thread keeps small ones for its next of that size). Call once, early.
void install_memory_accounts();

}  // namespace headrace
