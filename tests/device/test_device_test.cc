// The test device itself.
#include "tests/device/test_device.h"

#include <csignal>
#include <cstdint>
#include <cstdlib>

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

}  // namespace
}  // namespace headrace
