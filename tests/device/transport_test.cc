// How the transport ends where tensors lie on devices.
#include <chrono>
#include <csignal>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "headrace/tensor/exception_text.h"
#include "tests/device/test_device.h"
#include "tests/device/under_test.h"
#include "tests/transport/backends.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

torch::Device of_rank(int rank) {
  return test_device(rank);
}

torch::Tensor on(const Transport& transport) {
  return torch::ones({64}, torch::TensorOptions(transport.device()));
}

// The sender's thread would wait in NCCL for ever.
TEST(DeviceTransport, APeerThatNeverTakesAnythingStraightDoesNotHoldARank) {
  const Error error = failure_of([] {
    run_c10d(
        2, false,
        [](Transport& transport) {
          if (transport.rank() == 1) throw Error("rank 1 has failed");
          transport.send(1, label(0), {on(transport)});
          transport.flush();
        },
        of_rank, direct_in_place_of_nccl());
  });
  EXPECT_THAT(error.what(), HasSubstr("rank 1 has failed"));
}

TEST(DeviceTransport, OfAPeerThatEndsWithoutTakingItIsSaidSo) {
  const Error error = failure_of([] {
    run_c10d(
        2, false,
        [](Transport& transport) {
          transport.set_limit(5);
          if (transport.rank() == 1) return;
          transport.send(1, label(0), {on(transport)});
          transport.flush();
        },
        of_rank, direct_in_place_of_nccl());
  });
  EXPECT_THAT(error.what(), HasSubstr("rank 1"));
}

class OutOfMemory : public testing::TestWithParam<bool> {
 protected:
  ~OutOfMemory() override { limit_tensors(std::numeric_limits<std::int64_t>::max()); }
};

// It happens in a thread of the receiver's, and is not the sender's fault.
TEST_P(OutOfMemory, OfWhatArrivesIsTheReceiversOwnFailure) {
  const auto error = failure_of<MemoryError>([&] {
    run_c10d(
        2, GetParam(),
        [](Transport& transport) {
          if (transport.rank() == 0) {
            const torch::Tensor sent = on(transport);
            limit_tensors(16);
            transport.send(1, label(0), {sent});
            transport.receive(1, label(1))->wait();
          } else {
            transport.receive(0, label(0))->wait();
          }
        },
        of_rank);
  });
  EXPECT_THAT(error.what(), AllOf(HasSubstr("has no memory left for a tensor of 256 bytes"),
                                  Not(HasSubstr("gone"))));
}

INSTANTIATE_TEST_SUITE_P(OverRings, OutOfMemory, testing::Bool());

// While a device waits for a peer that was killed, its host has nothing else to wait for.
TEST(DeviceTransport, APeerThatIsKilledEndsTheWaitForADevice) {
  torch::set_num_threads(1);
  const Listening listening = listen_on_free_port();
  const auto of = [&](int rank) {
    Rendezvous place;
    place.rank = place.local_rank = rank;
    place.size = place.local_size = 2;
    place.port = listening.port;
    if (rank == 0) place.listen_fd = listening.fd;
    return c10d_transport(place, 30, {.device = of_rank(rank)});
  };
  const pid_t killed = ::fork();
  if (killed == 0) {
    const auto transport = of(1);
    transport->send(0, label(0), {on(*transport)});
    transport->flush();
    ::raise(SIGKILL);
  }
  const auto transport = of(0);
  transport->receive(1, label(0))->wait();
  transport->set_limit(60);
  hold_events(true);
  const auto begin = std::chrono::steady_clock::now();
  const auto error =
      failure_of<PeerError>([&] { transport->await(Mark::now(transport->device())); });
  hold_events(false);
  EXPECT_EQ(error.peer, 1);
  EXPECT_THAT(error.what(), HasSubstr("is gone"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  ::waitpid(killed, nullptr, 0);
  transport->fail(1, error.what());
}

}  // namespace
}  // namespace headrace
