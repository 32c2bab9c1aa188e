// Memory of the host that copies to and from the test device need not wait for.
#pragma once

#include <cstddef>
#include <mutex>
#include <new>
#include <set>

#include <c10/core/Allocator.h>

namespace headrace {

class Pinned : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* const memory = ::operator new(bytes + 1);
    const std::lock_guard lock(mutex_);
    blocks_.insert(memory);
    return {memory, memory, &free, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  bool has(const void* memory) {
    const std::lock_guard lock(mutex_);
    return blocks_.contains(const_cast<void*>(memory));
  }
  static Pinned& get() {
    static auto* const all = new Pinned;
    return *all;
  }

 private:
  static void free(void* memory) {
    {
      const std::lock_guard lock(get().mutex_);
      get().blocks_.erase(memory);
    }
    ::operator delete(memory);
  }
  std::mutex mutex_;
  std::set<void*> blocks_;
};

}  // namespace headrace
