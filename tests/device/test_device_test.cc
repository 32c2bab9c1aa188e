// The test device itself.
#include "tests/device/test_device.h"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <thread>
#include <vector>

#include <c10/core/impl/VirtualGuardImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/tensor/streams.h"

namespace headrace {
namespace {

// What the other tests rest on.
TEST(TestDevice, IsClosedToTheHostAndCountsItsWaits) {
  const torch::Tensor numbers = torch::ones({4}, test_device());
  EXPECT_EXIT(std::exit(static_cast<int>(*numbers.const_data_ptr<float>())),
              testing::KilledBySignal(SIGSEGV), "");
  EXPECT_THROW(numbers + torch::ones({4}), c10::Error);
  const std::int64_t before = host_waits();
  EXPECT_EQ((2 * numbers).sum().item<float>(), 8);
  EXPECT_TRUE(torch::equal(numbers.cpu(), torch::ones({4})));
  EXPECT_EQ(host_waits() - before, 2);
}

TEST(TestDevice, FindsOperationsOverTwoDevices) {
  EXPECT_THROW(torch::ones({4}, test_device(0)) + torch::ones({4}, test_device(1)), c10::Error);
}

TEST(TestDevice, FindsWorkOnTwoStreamsThatNothingOrders) {
  const torch::Device device = test_device();
  order_faults();
  {
    const torch::Tensor numbers = torch::ones({4}, device);
    const OwnStream own(device);
    numbers.mul_(2);
  }
  EXPECT_THAT(order_faults(), testing::Not(testing::IsEmpty()));
  {
    const torch::Tensor numbers = torch::ones({4}, device);
    const Mark made = Mark::now(device);
    const OwnStream own(device);
    take_over({numbers}, {made});
    numbers.mul_(2);
  }
  EXPECT_THAT(order_faults(), testing::IsEmpty());
}

TEST(TestDevice, FindsMemoryThatIsLetGoOfUnderAnotherStream) {
  const torch::Device device = test_device();
  order_faults();
  torch::Tensor numbers = torch::ones({4}, device);
  const Mark made = Mark::now(device);
  {
    const OwnStream own(device);
    made.come_after();
    numbers.mul_(2);
  }
  EXPECT_THAT(order_faults(), testing::IsEmpty());
  numbers.reset();
  EXPECT_THAT(order_faults(), testing::AllOf(testing::Not(testing::IsEmpty()),
                                             testing::Each(testing::HasSubstr("gets back"))));
}

c10::Stream current(torch::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

// As transfers are; two on one stream would wait for one another's peers, and a new one for each checkpoint would have
// memory of its own.
TEST(OwnStream, IsNobodyElsesWhileItLivesAndIsTakenAgain) {
  const torch::Device device = test_device();
  const c10::Stream outside = current(device);
  std::optional<c10::Stream> first;
  {
    const OwnStream own(device);
    first = current(device);
    EXPECT_NE(*first, outside);
    std::vector<c10::Stream> seen = {*first};
    for (int i = 0; i < 40; ++i)
      std::thread([&] {
        const OwnStream other(device);
        EXPECT_NE(current(device), *first);
        if (std::ranges::find(seen, current(device)) == seen.end()) seen.push_back(current(device));
      }).join();
    EXPECT_EQ(seen.size(), 2U);
  }
  EXPECT_EQ(current(device), outside);
}

}  // namespace
}  // namespace headrace
