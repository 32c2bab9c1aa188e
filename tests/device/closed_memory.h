// The memory of the test device: whole pages of each tensor, closed but while a kernel or a copy opens them, and
// with each block who has used it (stream_order.h).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>

#include <ATen/core/Tensor.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "tests/device/stream_order.h"

namespace headrace {

constexpr auto kTestDevice = c10::DeviceType::PrivateUse1;
constexpr c10::DeviceIndex kTestDevices = 2;

// The device that this thread makes tensors on.
c10::DeviceIndex current_device();
c10::DeviceIndex exchange_device(c10::DeviceIndex device);

class ClosedMemory : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override;

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr& pointer, c10::Stream stream) override;
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override;
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex device) override;

  // For what is larger there is no memory.
  std::atomic<std::int64_t> largest = std::numeric_limits<std::int64_t>::max();

  // The block that a tensor lies in, open as long as somebody uses it.
  void open(const void* in, bool to_write, const char* what);
  void close(const void* in);

 private:
  struct Block {
    std::size_t bytes = 0;
    int users = 0;
    stream_order::Accesses accesses;
  };
  static void free(void* memory);
  std::pair<void* const, Block>& block_of(const void* in);

  std::mutex mutex_;
  std::map<void*, Block> blocks_;
  std::map<c10::DeviceIndex, std::int64_t> live_, peak_;  // bytes
};

ClosedMemory& closed_memory();

// Opens the memory of a tensor on the test device while it lives.
class Opened {
 public:
  Opened(const at::Tensor& tensor, bool to_write, const char* what);
  ~Opened();
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

 private:
  const void* at_;
};

}  // namespace headrace
