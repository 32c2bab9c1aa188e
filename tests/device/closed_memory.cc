#include "tests/device/closed_memory.h"

#include <algorithm>
#include <utility>

#include <sys/mman.h>

namespace headrace {
namespace {

thread_local c10::DeviceIndex device_of_thread = 0;

}  // namespace

c10::DeviceIndex current_device() {
  return device_of_thread;
}

c10::DeviceIndex exchange_device(c10::DeviceIndex device) {
  return std::exchange(device_of_thread, device);
}

ClosedMemory& closed_memory() {
  static ClosedMemory* const all = new ClosedMemory;  // tensors may outlive statics
  return *all;
}

c10::DataPtr ClosedMemory::allocate(std::size_t bytes) {
  const c10::DeviceIndex index = current_device();
  const c10::Device device(kTestDevice, index);
  if (bytes == 0) return {nullptr, device};
  TORCH_CHECK_WITH(OutOfMemoryError, static_cast<std::int64_t>(bytes) <= largest,
                   "out of memory. Tried to allocate ", bytes, " bytes.");
  void* const memory =
      ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TORCH_CHECK_WITH(OutOfMemoryError, memory != MAP_FAILED, "no memory for ", bytes, " bytes");
  const std::lock_guard lock(mutex_);
  blocks_[memory] = {bytes, 0, {.made_on = {index, stream_order::current(index)}}};
  live_[index] += static_cast<std::int64_t>(bytes);
  peak_[index] = std::max(peak_[index], live_[index]);
  return {memory, memory, &free, device};
}

void ClosedMemory::free(void* memory) {
  ClosedMemory& all = closed_memory();
  const std::lock_guard lock(all.mutex_);
  const auto found = all.blocks_.find(memory);
  const stream_order::Accesses& accesses = found->second.accesses;
  stream_order::let_go(accesses);
  all.live_[accesses.made_on.first] -= static_cast<std::int64_t>(found->second.bytes);
  ::munmap(memory, found->second.bytes);
  all.blocks_.erase(found);
}

std::pair<void* const, ClosedMemory::Block>& ClosedMemory::block_of(const void* in) {
  auto block = blocks_.upper_bound(const_cast<void*>(in));
  return *--block;
}

void ClosedMemory::recordStream(const c10::DataPtr& pointer, c10::Stream stream) {
  if (pointer.get() == nullptr) return;
  const std::lock_guard lock(mutex_);
  block_of(pointer.get()).second.accesses.kept_for.insert({stream.device_index(), stream.id()});
}

c10::CachingDeviceAllocator::DeviceStats ClosedMemory::getDeviceStats(c10::DeviceIndex device) {
  const std::lock_guard lock(mutex_);
  c10::CachingDeviceAllocator::DeviceStats stats;
  stats.allocated_bytes[0].current = live_[device];
  stats.allocated_bytes[0].peak = peak_[device];
  return stats;
}

void ClosedMemory::resetPeakStats(c10::DeviceIndex device) {
  const std::lock_guard lock(mutex_);
  peak_[device] = live_[device];
}

void ClosedMemory::open(const void* in, bool to_write, const char* what) {
  const std::lock_guard lock(mutex_);
  auto& [memory, block] = block_of(in);
  if (to_write)
    stream_order::write(block.accesses, what);
  else
    stream_order::read(block.accesses, what);
  if (block.users++ == 0) ::mprotect(memory, block.bytes, PROT_READ | PROT_WRITE);
}

void ClosedMemory::close(const void* in) {
  const std::lock_guard lock(mutex_);
  auto& [memory, block] = block_of(in);
  if (--block.users == 0) ::mprotect(memory, block.bytes, PROT_NONE);
}

void ClosedMemory::copy_data(void* to, const void* from, std::size_t bytes) const {
  closed_memory().open(to, true, "a copy");
  closed_memory().open(from, false, "a copy");
  default_copy_data(to, from, bytes);
  closed_memory().close(from);
  closed_memory().close(to);
}

Opened::Opened(const at::Tensor& tensor, bool to_write, const char* what)
    : at_(tensor.is_cpu() ? nullptr : tensor.storage().data()) {
  if (at_ != nullptr) closed_memory().open(at_, to_write, what);
}

Opened::~Opened() {
  if (at_ != nullptr) closed_memory().close(at_);
}

}  // namespace headrace
