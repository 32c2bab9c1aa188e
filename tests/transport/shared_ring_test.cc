// The rings by which ranks of one host exchange small messages.
#include "headrace/transport/c10d/shared_ring.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

namespace headrace {
namespace {

using std::chrono::milliseconds;
using torch::Tensor;

Tensor bytes(std::int64_t size, int start) {
  return torch::arange(start, start + size).to(torch::kUInt8);
}

class RingsOfTwo : public testing::Test {
 protected:
  RingsOfTwo() { EXPECT_TRUE(attached_); }

  SharedRings writer_boxes_{1, 2}, reader_boxes_{0, 2};
  bool attached_ = reader_boxes_.attach(1, writer_boxes_.address());
  Ring reader_ = writer_boxes_.from(0, 0);  // rank 1 reads what rank 0 writes
  Ring writer_ = reader_boxes_.to(1, 0);
};

TEST_F(RingsOfTwo, MessagesOfAnySizeArriveInOrderAroundTheEnd) {
  for (int i = 0; i < 400; ++i) {
    const std::int64_t size = i == 7 ? 0 : i * 104729 % kRingPart;
    ASSERT_TRUE(writer_.try_put(bytes(size, i)));
    const Tensor taken = reader_.take(milliseconds(0));
    ASSERT_TRUE(taken.defined() && torch::equal(taken, bytes(size, i))) << i;
  }
  EXPECT_FALSE(reader_.take(milliseconds(0)).defined());
}

TEST_F(RingsOfTwo, AFullRingTakesNoMoreUntilItIsRead) {
  int put = 0;
  while (writer_.try_put(bytes(kRingPart, put))) ++put;
  EXPECT_GE(put, 4);
  EXPECT_FALSE(writer_.try_put(bytes(kRingPart, 0)));
  for (int i = 0; i < put; ++i)
    ASSERT_TRUE(torch::equal(reader_.take(milliseconds(0)), bytes(kRingPart, i)));
  EXPECT_TRUE(writer_.try_put(bytes(kRingPart, 0)));
}

TEST_F(RingsOfTwo, AReaderThatSleepsIsWoken) {
  for (int i = 0; i < 20; ++i) {
    std::thread late([&] {
      std::this_thread::sleep_for(milliseconds(5));
      writer_.try_put(bytes(10, i));
    });
    EXPECT_TRUE(torch::equal(reader_.take(milliseconds(60000)), bytes(10, i)));
    late.join();
  }
}

TEST_F(RingsOfTwo, PairsAndChannelsAreApart) {
  ASSERT_TRUE(writer_boxes_.attach(0, reader_boxes_.address()));
  Ring other_channel = reader_boxes_.to(1, 1);
  Ring back = writer_boxes_.to(0, 0);
  ASSERT_TRUE(writer_.try_put(bytes(3, 1)) && other_channel.try_put(bytes(3, 2)) &&
              back.try_put(bytes(3, 3)));
  EXPECT_EQ(writer_boxes_.from(0, 1).take(milliseconds(0))[0].item<int>(), 2);
  EXPECT_EQ(reader_.take(milliseconds(0))[0].item<int>(), 1);
  EXPECT_EQ(reader_boxes_.from(1, 0).take(milliseconds(0))[0].item<int>(), 3);
}

TEST(SharedRing, WhatIsNotThereIsNotAttached) {
  SharedRings boxes(0, 2);
  std::string of_the_dead;
  {
    const SharedRings gone(1, 2);
    of_the_dead = gone.address();
  }
  const std::string space = of_the_dead.substr(0, of_the_dead.find(' '));
  for (const std::string& address :
       {std::string(), std::string("nonsense"), of_the_dead, space + " 1 0 5", space + " -1 -1 5",
        std::string("pid:[0] 1 3 5")})
    EXPECT_FALSE(boxes.attach(1, address)) << address;
}

// Another process, or one that was started after it with its number, may have other memory there.
TEST(SharedRing, OfAnotherRunIsNotAttached) {
  SharedRings boxes(0, 2);
  const SharedRings peer(1, 2);
  std::string address = peer.address();
  address.back() = address.back() == '1' ? '2' : '1';
  EXPECT_FALSE(boxes.attach(1, address));
}

}  // namespace
}  // namespace headrace
