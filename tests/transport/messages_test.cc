// What is sent arrives: every type, layout, number and size, in order.
#include <atomic>
#include <deque>
#include <thread>

#include <gmock/gmock.h>

#include "tests/transport/backends.h"

namespace headrace {

namespace {

using torch::Tensor;

class Messages : public OverBackends {};

INSTANTIATE_TEST_SUITE_P(Over, Messages, testing::ValuesIn(backends()), backend_name);

// Rank 0 sends the lists one after the other, rank 1 compares.
void expect_same(const std::vector<Tensors>& lists, Transport& transport) {
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const Label name = label(static_cast<int>(i));
    if (transport.rank() == 0) {
      transport.send(1, name, lists[i]);
      continue;
    }
    const Tensors arrived = transport.receive(0, name)->wait().tensors;
    ASSERT_EQ(arrived.size(), lists[i].size());
    for (std::size_t k = 0; k < arrived.size(); ++k) {
      const Tensor& sent = lists[i][k];
      const Tensor& got = arrived[k];
      ASSERT_EQ(got.defined(), sent.defined());
      if (!sent.defined()) continue;
      EXPECT_TRUE(got.is_contiguous());
      EXPECT_EQ(got.dtype(), sent.dtype());
      EXPECT_EQ(got.sizes(), sent.sizes());
      EXPECT_EQ(got.requires_grad(), sent.requires_grad());
      EXPECT_TRUE(got.is_leaf());
      EXPECT_TRUE(torch::equal(got, sent)) << "list " << i << ", tensor " << k;
    }
  }
}

TEST_P(Messages, EveryType) {
  Tensors all;
  for (const auto type : {torch::kFloat32, torch::kFloat16, torch::kBFloat16, torch::kFloat64,
                          torch::kInt64, torch::kInt32, torch::kUInt8, torch::kBool})
    for (const int size : {3, 5000}) all.push_back(torch::randint(2, {size, 2}).to(type));
  std::vector<Tensors> lists = {all};
  for (const Tensor& tensor : all) lists.push_back({tensor});
  run(2, [&](Transport& transport) { expect_same(lists, transport); });
}

TEST_P(Messages, EveryLayout) {
  std::vector<Tensors> lists;
  for (const int size : {4, 300}) {
    const Tensor base = torch::randn({size, size + 1});
    lists.push_back({base.t(), base.narrow(0, 2, 2), base.narrow(1, 1, 2),
                     base.select(0, 1).expand({5, size + 1}), torch::tensor(3.5),
                     torch::empty({0, size}), Tensor(), torch::empty({2, 0, 3}),
                     base.slice(0, 0, size, 2)});
  }
  run(2, [&](Transport& transport) { expect_same(lists, transport); });
}

TEST_P(Messages, GradientFlagsAreKept) {
  const Tensor leaf = torch::randn({100}).requires_grad_();
  const std::vector<Tensors> lists = {{leaf, leaf * 2, leaf.detach(),
                                       torch::ones(3).to(torch::kInt64), Tensor(),
                                       torch::randn({40, 40}).requires_grad_()}};
  run(2, [&](Transport& transport) { expect_same(lists, transport); });
}

TEST_P(Messages, AnyNumberOfTensorsAndAnyShape) {
  std::vector<Tensors> lists;
  for (int count = 0; count <= 20; ++count) {
    Tensors list;
    for (int i = 0; i < count; ++i) list.push_back(torch::randn({count, i, 7}));
    lists.push_back(list);
  }
  // More descriptions than one small header holds.
  Tensors many;
  for (int i = 0; i < 500; ++i) many.push_back(torch::full({1, 1, 1, 1, 1, 1, 1, 2}, i));
  lists.push_back(many);
  lists.push_back({torch::randn(std::vector<std::int64_t>(40, 1))});
  run(2, [&](Transport& transport) { expect_same(lists, transport); });
}

TEST_P(Messages, SizesMayChange) {
  std::vector<Tensors> lists;
  for (const int size : {1, 1 << 18, 7, 1000, 4096, 0, 100000, 3})
    lists.push_back({torch::randn({size})});
  run(2, [&](Transport& transport) { expect_same(lists, transport); });
}

TEST_P(Messages, SixtyFourMebibytesBothWays) {
  const Tensor large = torch::arange(1 << 24, torch::kFloat32);
  run(2, [&](Transport& transport) {
    const int peer = 1 - transport.rank();
    const auto arrival = transport.receive(peer, label(0));
    transport.send(peer, label(0), {large + transport.rank()});
    EXPECT_TRUE(torch::equal(arrival->wait().tensors.at(0), large + peer));
    transport.flush();
  });
}

TEST_P(Messages, HundredsInFlightBothWays) {
  constexpr int kCount = 400;
  run(3, [&](Transport& transport) {
    std::deque<std::pair<int, std::unique_ptr<Arrival>>> arrivals;
    for (int i = 0; i < kCount; ++i)
      for (int peer = 0; peer < 3; ++peer) {
        if (peer == transport.rank()) continue;
        transport.send(peer, label(i),
                       {torch::full({1 + i * 17 % 3000}, i), torch::full({2}, transport.rank())});
      }
    for (int i = 0; i < kCount; ++i)
      for (int peer = 0; peer < 3; ++peer)
        if (peer != transport.rank())
          arrivals.emplace_back(peer, transport.receive(peer, label(i)));
    int i = 0;
    for (const auto& [peer, arrival] : arrivals) {
      const Tensors tensors = arrival->wait().tensors;
      const int microbatch = i++ / 2;
      ASSERT_EQ(tensors.at(0).numel(), 1 + microbatch * 17 % 3000);
      ASSERT_EQ(tensors.at(0)[0].item<int>(), microbatch);
      ASSERT_EQ(tensors.at(1)[1].item<int>(), peer);
    }
  });
}

// More than any buffer between two ranks holds, of sizes that end a ring of bytes anywhere, and a
// large one here and there.
TEST_P(Messages, MoreThanFitsBetweenTheRanksBothWays) {
  constexpr int kCount = 300;
  const auto size = [](int i) { return i % 50 == 49 ? 200000 : 1 + i * 7919 % 20000; };
  run(2, [&](Transport& transport) {
    const int peer = 1 - transport.rank();
    for (int i = 0; i < kCount; ++i)
      transport.send(peer, label(i), {torch::full({size(i)}, i + 1000 * transport.rank())});
    for (int i = 0; i < kCount; ++i) {
      const Tensor arrived = transport.receive(peer, label(i))->wait().tensors.at(0);
      ASSERT_EQ(arrived.numel(), size(i));
      ASSERT_TRUE(arrived.eq(i + 1000 * peer).all().item<bool>()) << "message " << i;
    }
    transport.flush();
  });
}

// A sender that goes on while nobody receives, until it flushes.
TEST_P(Messages, FlushOfBothWhileReceivesArePosted) {
  constexpr int kCount = 100;
  run(2, [&](Transport& transport) {
    const int peer = 1 - transport.rank();
    std::vector<std::unique_ptr<Arrival>> arrivals;
    for (int i = 0; i < kCount; ++i) arrivals.push_back(transport.receive(peer, label(i)));
    for (int i = 0; i < kCount; ++i) transport.send(peer, label(i), {torch::full({20000}, i)});
    transport.flush();
    for (int i = 0; i < kCount; ++i)
      EXPECT_EQ(arrivals[static_cast<std::size_t>(i)]->wait().tensors.at(0)[9].item<int>(), i);
  });
}

TEST_P(Messages, WaitsInAnotherOrderThanPosted) {
  run(2, [&](Transport& transport) {
    if (transport.rank() == 0) {
      for (int i = 0; i < 3; ++i) transport.send(1, label(i), {torch::full({9}, i)});
      transport.flush();
      return;
    }
    std::vector<std::unique_ptr<Arrival>> arrivals;
    for (int i = 0; i < 3; ++i) arrivals.push_back(transport.receive(0, label(i)));
    for (const int i : {2, 0, 1})
      EXPECT_EQ(arrivals[static_cast<std::size_t>(i)]->wait().tensors.at(0)[0].item<int>(), i);
  });
}

// What shared parameters exchange and what the pipeline exchanges are in no order to one another.
TEST_P(Messages, ChannelsDoNotWaitForOneAnother) {
  run(2, [](Transport& transport) {
    const Label shared = label(0, Purpose::SharedGradients);
    if (transport.rank() == 0) {
      transport.send(1, shared, {torch::full({50000}, 1.0)});
      for (int m = 0; m < 3; ++m) transport.send(1, label(m), {torch::full({50000}, 2.0 + m)});
      return;
    }
    for (int m = 0; m < 3; ++m)
      EXPECT_EQ(transport.receive(0, label(m))->wait().tensors[0][7].item<double>(), 2.0 + m);
    EXPECT_EQ(transport.receive(0, shared)->wait().tensors[0][7].item<double>(), 1);
  });
}

TEST_P(Messages, ReceivesGivenUpKeepTheOrder) {
  run(2, [&](Transport& transport) {
    for (int i = 0; i < 4; ++i) {
      if (transport.rank() == 0) {
        transport.send(1, label(i), {torch::full({3000}, i)});
      } else {
        const auto arrival = transport.receive(0, label(i));
        if (i % 2 == 0) continue;
        EXPECT_EQ(arrival->wait().tensors.at(0)[0].item<int>(), i);
      }
    }
    if (transport.rank() == 0) transport.flush();
  });
}

TEST_P(Messages, TimesAreOnTheSharedClock) {
  run(2, [&](Transport& transport) {
    const double before = transport.clock();
    if (transport.rank() == 0) {
      transport.send(1, label(0), {torch::ones({5000})});
      transport.receive(1, label(1))->wait();
    } else {
      const Message message = transport.receive(0, label(0))->wait();
      transport.send(0, label(1), {});
      EXPECT_LE(message.sent, message.arrived + transport.clock_error());
      EXPECT_LE(message.arrived, transport.clock());
      EXPECT_NEAR(message.sent, before, 10);
    }
  });
}

// A block of memory that tells when it is let go.
Tensor watched(std::int64_t size, std::atomic<int>& alive) {
  ++alive;
  auto* data = new float[static_cast<std::size_t>(size)]();
  return torch::from_blob(data, {size}, [data, &alive](void*) {
    delete[] data;
    --alive;
  });
}

TEST_P(Messages, MemoryIsLetGoOnceSent) {
  std::atomic<int> alive = 0;
  run(2, [&](Transport& transport) {
    for (int i = 0; i < 100; ++i) {
      if (transport.rank() == 0) {
        transport.send(1, label(i), {watched(i % 2 ? 50000 : 10, alive)});
        transport.receive(1, label(i))->wait();
        transport.flush();
        for (int tries = 0; tries < 1000 && alive > 2; ++tries)
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        ASSERT_LE(alive, 2) << "after " << i + 1 << " messages";
      } else {
        transport.receive(0, label(i))->wait();
        transport.send(0, label(i), {});
      }
    }
  });
  EXPECT_EQ(alive, 0);
}

TEST_P(Messages, LayoutsWithoutADenseFormAreRefused) {
  const Error error = failure_of([&] {
    run(2, [&](Transport& transport) {
      if (transport.rank() == 0)
        transport.send(1, label(3), {torch::ones({2}), torch::eye(3).to_sparse()});
      else
        transport.receive(0, label(3))->wait();
    });
  });
  EXPECT_THAT(error.what(),
              testing::HasSubstr("tensor 1 of activations of stage 1, microbatch 3, step 8"));
}

}  // namespace

}  // namespace headrace
