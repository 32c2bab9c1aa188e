// What libtorch asks of an allocator of CPU memory, asked of ours directly: which of it an operation
// uses depends on the processor (oneDNN's half-precision products take memory without a DataPtr).
#include "headrace/tensor/memory.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <torch/types.h>

namespace headrace {
namespace {

constexpr std::uintptr_t kAlignment = 64;  // c10::gAlignment of a processor with vectors

// Around the sizes where blocks are kept, and those where they are not.
const std::vector<std::size_t> kSizes = {1, 63, 64, 65, 1000, 8191, 8192, 8193, 100000, 5000000};

class Memory : public testing::Test {
 protected:
  Memory() : scope_(account_) { install_memory_accounts(); }

  static c10::Allocator& allocator() { return *c10::GetCPUAllocator(); }

  MemoryAccount account_;
  MemoryScope scope_;
};

TEST_F(Memory, RawMemoryIsAlignedWritableAndBooked) {
  for (const std::size_t bytes : kSizes) {
    void* const address = allocator().raw_allocate(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(address) % kAlignment, 0U) << bytes;
    std::memset(address, 0xAB, bytes);
    EXPECT_EQ(account_.live(), static_cast<std::int64_t>(bytes));
    allocator().raw_deallocate(address);
    EXPECT_EQ(account_.live(), 0) << bytes;
  }
  EXPECT_EQ(account_.peak(), 5000000);
}

TEST_F(Memory, APointerIsItsOwnContextAndTheDeleterIsTheRawOne) {
  for (const std::size_t bytes : kSizes) {
    c10::DataPtr data = allocator().allocate(bytes);
    EXPECT_EQ(data.get(), data.get_context()) << bytes;
    EXPECT_EQ(data.get_deleter(), allocator().raw_deleter()) << bytes;
    EXPECT_TRUE(allocator().is_simple_data_ptr(data)) << bytes;
    EXPECT_EQ(data.device(), c10::Device(c10::DeviceType::CPU));
    // As libtorch does where it hands memory on without its DataPtr.
    void* const address = data.release_context();
    allocator().raw_deleter()(address);
    EXPECT_EQ(account_.live(), 0) << bytes;
  }
}

TEST_F(Memory, AClonesBytesAreTheSameAndItsOwn) {
  for (const std::size_t bytes : kSizes) {
    c10::DataPtr data = allocator().allocate(bytes);
    std::memset(data.get(), 0x5A, bytes);
    const c10::DataPtr copy = allocator().clone(data.get(), bytes);
    EXPECT_NE(copy.get(), data.get());
    EXPECT_EQ(account_.live(), 2 * static_cast<std::int64_t>(bytes));
    data.clear();
    const auto* const first = static_cast<const unsigned char*>(copy.get());
    EXPECT_EQ(first[0], 0x5A);
    EXPECT_EQ(first[bytes - 1], 0x5A);
  }
  EXPECT_EQ(account_.live(), 0);
}

TEST_F(Memory, ZeroBytesAreNoMemory) {
  EXPECT_EQ(allocator().raw_allocate(0), nullptr);
  allocator().raw_deallocate(nullptr);
  const c10::DataPtr nothing = allocator().allocate(0);
  EXPECT_EQ(nothing.get(), nullptr);
  EXPECT_EQ(nothing.get_context(), nullptr);
  EXPECT_EQ(account_.live(), 0);
  const torch::Tensor empty = torch::empty({0, 7});
  EXPECT_EQ(torch::cat({empty, empty}).numel(), 0);
}

TEST_F(Memory, WhatAnotherThreadFreesLeavesTheAccountOfItsMaker) {
  for (const std::size_t bytes : kSizes) {
    c10::DataPtr data = allocator().allocate(bytes);
    void* const raw = allocator().raw_allocate(bytes);
    EXPECT_EQ(account_.live(), 2 * static_cast<std::int64_t>(bytes));
    std::thread([&data, raw] {
      data.clear();
      allocator().raw_deallocate(raw);
    }).join();
    EXPECT_EQ(account_.live(), 0) << bytes;
  }
}

TEST_F(Memory, WhatAThreadLeavesBehindOutlivesIt) {
  std::vector<c10::DataPtr> left;
  std::thread([&] {
    for (const std::size_t bytes : kSizes) {
      left.push_back(allocator().allocate(bytes));
      std::memset(left.back().get(), 1, bytes);
    }
  }).join();
  for (std::size_t i = 0; i < left.size(); ++i)
    EXPECT_EQ(static_cast<const unsigned char*>(left[i].get())[kSizes[i] - 1], 1);
}

TEST_F(Memory, KeptBlocksAreNotHandedOutTwice) {
  std::vector<c10::DataPtr> data;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 200; ++i) {
      data.push_back(allocator().allocate(100));
      std::memset(data.back().get(), i, 100);
    }
    for (int i = 0; i < 200; ++i)
      EXPECT_EQ(static_cast<const unsigned char*>(data[static_cast<std::size_t>(i)].get())[99], i);
    data.clear();
  }
}

TEST_F(Memory, ASizeThatCannotBeIsRefusedAndNotBooked) {
  EXPECT_THROW((void)allocator().allocate(std::numeric_limits<std::size_t>::max() - 8), c10::Error);
  EXPECT_THROW((void)allocator().allocate(std::size_t{1} << 60), c10::Error);
  EXPECT_EQ(account_.live(), 0);
}

TEST_F(Memory, HalfPrecisionProductsRunOnAnyProcessor) {
  for (const auto type : {torch::kBFloat16, torch::kFloat16}) {
    const torch::Tensor x = torch::ones({64, 96}, type).requires_grad_();
    const torch::Tensor w = torch::full({32, 96}, 0.5, type).requires_grad_();
    const torch::Tensor y = torch::linear(x, w);
    EXPECT_TRUE(y.eq(48).all().item<bool>());
    y.sum().backward();
    EXPECT_TRUE(x.grad().eq(16).all().item<bool>());
    EXPECT_TRUE(w.grad().eq(64).all().item<bool>());
  }
}

}  // namespace
}  // namespace headrace
