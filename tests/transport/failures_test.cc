// Every wait ends, and the error names who is at fault.
#include <atomic>
#include <chrono>
#include <thread>

#include <gmock/gmock.h>

#include "headrace/transport/wait_chain.h"
#include "tests/transport/backends.h"

namespace headrace {

namespace {

using testing::AllOf;
using testing::HasSubstr;

class Failures : public OverBackends {};

INSTANTIATE_TEST_SUITE_P(Over, Failures, testing::ValuesIn(backends()), backend_name);

void sleep(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST_P(Failures, WrongLabelGivesBoth) {
  const Error error = failure_of([&] {
    run(2, [&](Transport& transport) {
      if (transport.rank() == 0)
        transport.send(1, label(2), {torch::ones({3})});
      else
        transport.receive(0, label(3, Purpose::Gradients))->wait();
      if (transport.rank() == 0) transport.receive(1, label(0))->wait();
    });
  });
  EXPECT_THAT(error.what(), AllOf(HasSubstr("gradients of stage 1, microbatch 3, step 8"),
                                  HasSubstr("activations of stage 1, microbatch 2, step 8")));
}

TEST_P(Failures, FirstFailureIsThrownAndEndsTheOthers) {
  const double taken = seconds_of([&] {
    const Error error = failure_of([&] {
      run(4, [&](Transport& transport) {
        check(transport.rank() != 2, "out of memory");
        transport.receive((transport.rank() + 1) % 4, label(0))->wait();
      });
    });
    EXPECT_STREQ(error.what(), "out of memory");
  });
  EXPECT_LT(taken, 10);
}

TEST_P(Failures, IsReportedOnce) {
  std::atomic<int> reports = 0;
  std::atomic<int> agreed = 0;
  run(4, [&](Transport& transport) {
    try {
      check(transport.rank() != 2, "out of memory");
      transport.receive((transport.rank() + 1) % 4, label(0))->wait();
    } catch (const PeerError& error) {
      const Failure failure = transport.fail(error.peer, error.what());
      reports += failure.reported_here;
      agreed += failure.rank == 2 && failure.what == "out of memory" && error.peer == 2;
    } catch (const Error& error) {
      sleep(0.2);  // the others may see the end of this rank before its reason
      const Failure failure = transport.fail(transport.rank(), error.what());
      reports += failure.reported_here;
      agreed += failure.rank == 2;
    }
  });
  EXPECT_EQ(reports, 1);
  EXPECT_EQ(agreed, 4);
}

TEST_P(Failures, PeerThatEndsWhileWaitedFor) {
  const PeerError error = failure_of<PeerError>([&] {
    run(2, [&](Transport& transport) {
      if (transport.rank() == 1) transport.receive(0, label(5))->wait();
    });
  });
  EXPECT_EQ(error.peer, 0);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 0"), HasSubstr("microbatch 5")));
}

TEST_P(Failures, MessagesOfAPeerThatHasEndedStillArrive) {
  run(2, [&](Transport& transport) {
    if (transport.rank() == 1) {
      for (int i = 0; i < 5; ++i) transport.send(0, label(i), {torch::full({2000}, i)});
    } else {
      sleep(0.3);
      for (int i = 0; i < 5; ++i)
        EXPECT_EQ(transport.receive(1, label(i))->wait().tensors.at(0)[1].item<int>(), i);
    }
  });
}

TEST_P(Failures, SilentPeer) {
  const double taken = seconds_of([&] {
    const PeerError error = failure_of<PeerError>([&] {
      run(2, [&](Transport& transport) {
        transport.set_limit(1);
        if (transport.rank() == 0)
          transport.receive(1, label(4))->wait();
        else
          sleep(3);
      });
    });
    EXPECT_EQ(error.peer, 1);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 1 (host "),
                                    HasSubstr("sent nothing for 1.0 s: rank 0 waited "
                                              "for activations of stage 1, microbatch 4, step 8")));
  });
  EXPECT_LT(taken, 8);
}

TEST_P(Failures, ChainOfWaitsNamesTheLast) {
  const PeerError error = failure_of<PeerError>([&] {
    run(4, [&](Transport& transport) {
      transport.set_limit(1);
      if (transport.rank() == 3) {
        sleep(4);
      } else {
        // Rank 0, the farthest, is the first to lose patience.
        sleep(0.15 * transport.rank());
        transport.receive(transport.rank() + 1, label(transport.rank()))->wait();
      }
    });
  });
  EXPECT_EQ(error.peer, 3);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 3 (host "), HasSubstr("rank 2 waited for"),
                                  HasSubstr("microbatch 2")));
}

TEST_P(Failures, CircleOfWaitsIsShown) {
  const PeerError error = failure_of<PeerError>([&] {
    run(3, [&](Transport& transport) {
      transport.set_limit(1);
      transport.receive((transport.rank() + 1) % 3, label(transport.rank()))->wait();
    });
  });
  EXPECT_THAT(error.what(), AllOf(HasSubstr("wait for one another"), HasSubstr("microbatch 0"),
                                  HasSubstr("microbatch 1"), HasSubstr("microbatch 2")));
}

TEST_P(Failures, AbortFromAnotherThread) {
  const double taken = seconds_of([&] {
    const Error error = failure_of([&] {
      run(2, [&](Transport& transport) {
        if (transport.rank() == 1) {
          sleep(1);
          return;
        }
        std::thread other([&] {
          sleep(0.2);
          transport.abort("interrupted by the user");
        });
        try {
          transport.receive(1, label(0))->wait();
        } catch (...) {
          other.join();
          throw;
        }
        other.join();
      });
    });
    EXPECT_STREQ(error.what(), "interrupted by the user");
  });
  EXPECT_LT(taken, 8);
}

TEST_P(Failures, SendNeverBlocksOnThePeer) {
  constexpr int kMessages = 30;
  std::atomic<bool> all_started = false;
  run(2, [&](Transport& transport) {
    if (transport.rank() == 0) {
      for (int i = 0; i < kMessages; ++i) transport.send(1, label(i), {torch::ones({1 << 18})});
      all_started = true;
      transport.flush();
    } else {
      for (int tries = 0; tries < 2000 && !all_started; ++tries) sleep(0.01);
      ASSERT_TRUE(all_started);
      for (int i = 0; i < kMessages; ++i) transport.receive(0, label(i))->wait();
    }
  });
}

TEST(AtFault, EndOfTheChain) {
  const std::vector<std::string> hosts = {"a", "b", "c", "d"};
  std::vector<std::optional<Waiting>> waits(4);
  waits[0] = Waiting{1, false, label(0)};
  waits[1] = Waiting{3, true, label(1)};
  const AtFault at_fault = find_at_fault(0, 2.5, waits, hosts);
  EXPECT_EQ(at_fault.rank, 3);
  EXPECT_EQ(
      at_fault.what,
      "rank 3 (host d) received nothing for 2.5 s: rank 1 waited to send activations of stage "
      "1, microbatch 1, step 8");
}

TEST(Local, CapacityZeroBlocksUntilTheReceiveIsPosted) {
  std::atomic<bool> posted = false;
  run_ranks(2,
            [&](Transport& transport) {
              if (transport.rank() == 0) {
                transport.send(1, label(0), {torch::ones({2})});
                EXPECT_TRUE(posted);
              } else {
                sleep(0.2);
                posted = true;
                transport.receive(0, label(0))->wait();
              }
            },
            {.capacity_zero = true});
}

TEST(Local, CapacityZeroTurnsSendFirstOnBothSidesIntoAnError) {
  const PeerError error = failure_of<PeerError>([&] {
    run_ranks(2,
              [&](Transport& transport) {
                transport.set_limit(0.3);
                transport.send(1 - transport.rank(), label(transport.rank()), {});
              },
              {.capacity_zero = true});
  });
  EXPECT_THAT(error.what(), HasSubstr("wait for one another"));
}

TEST(Local, DelayFindsOutASenderThatWritesIntoASentTensor) {
  run_ranks(2,
            [&](Transport& transport) {
              if (transport.rank() == 0) {
                torch::Tensor tensor = torch::ones({4});
                transport.send(1, label(0), {tensor});
                tensor.zero_();
              } else {
                EXPECT_EQ(transport.receive(0, label(0))->wait().tensors.at(0).sum().item<int>(),
                          0);
              }
            },
            {.delay = 0.05});
}

}  // namespace

}  // namespace headrace
