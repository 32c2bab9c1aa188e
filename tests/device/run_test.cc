// Whole runs on a device: what they write, and how they end.
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/tensor/streams.h"
#include "headrace/train/loop.h"
#include "headrace/train/resume.h"
#include "headrace/transport/local.h"
#include "tests/device/test_device.h"
#include "tests/train/tiny_config.h"
#include "tests/transport/backends.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

class DeviceRun : public testing::Test {
 protected:
  DeviceRun() {
    torch::set_num_threads(1);
    write_tokens(folder_, 2000);
    order_faults();
  }

  Config config(const std::string& run, int ranks) const {
    Config config = tiny_config(folder_);
    config.pipeline.ranks = ranks;
    config.checkpoint.every = 2;
    config.run_dir = (folder_ / run).string();
    fs::create_directories(config.run_dir);
    return config;
  }

  // What rank 0 shows.
  std::string train(const Config& config) const {
    std::ostringstream out;
    const auto work = [&](Transport& transport) {
      const OwnStream own(transport.device());
      Console console(out, false);
      TrainingHooks hooks;
      if (transport.rank() == 0) hooks.console = &console;
      run_training(config, transport, hooks);
    };
    run_ranks(processes_of(config.pipeline), work, {.device = test_device()});
    return out.str();
  }

  // Of each line all but its seconds.
  std::vector<std::string> metrics(const std::string& run) const {
    std::vector<std::string> lines;
    std::ifstream file(folder_ / run / "metrics.jsonl");
    for (std::string line; std::getline(file, line);)
      lines.push_back(line.substr(0, line.find(",\"seconds\"")));
    return lines;
  }

  Folder folder_;
};

TEST_F(DeviceRun, IsTheSameOverRanksWithItsCheckpointsAndItsTable) {
  const std::string shown = train(config("one", 1));
  EXPECT_THAT(shown, HasSubstr("# device: 1 × test_device:0, a rank each\n"));
  const std::string of_two = train(config("two", 2));
  EXPECT_THAT(of_two, HasSubstr("# device: 1 × test_device:0, 2 ranks each"));
  EXPECT_THAT(of_two, HasSubstr("# speed: "));
  EXPECT_EQ(metrics("two"), metrics("one"));
  EXPECT_EQ(metrics("two").size(), 6U);
  EXPECT_THAT(verify_checkpoint(checkpoint_folder(folder_ / "two" / "checkpoints", 6)), IsEmpty());
  EXPECT_THAT(order_faults(), IsEmpty());
}

TEST_F(DeviceRun, GoesOnFromItsCheckpoint) {
  train(config("whole", 2));
  Config part = config("part", 2);
  part.train.steps = 6;
  part.train.time_limit = 1e-9;  // ends after the first step
  train(part);
  Config rest = resumed_config(folder_ / "part", {"train.time_limit=1000"});
  resolve(rest);
  train(rest);
  EXPECT_EQ(metrics("part"), metrics("whole"));
  EXPECT_THAT(order_faults(), IsEmpty());
}

// What comes after the last step needs no memory there: a run is not lost for it.
TEST_F(DeviceRun, ADeviceThatIsFullAtTheEndStillGivesItsCheckpoint) {
  Config last = config("last", 1);
  last.checkpoint.every = 0;
  const auto work = [&](Transport& transport) {
    TrainingHooks hooks;
    hooks.on_saving = [] { limit_tensors(0); };
    run_training(last, transport, hooks);
  };
  run_ranks(1, work, {.device = test_device()});
  limit_tensors(std::numeric_limits<std::int64_t>::max());
  EXPECT_THAT(verify_checkpoint(checkpoint_folder(folder_ / "last" / "checkpoints", 6)), IsEmpty());
}

TEST_F(DeviceRun, ADeviceThatStopsEndsTheRunAtTheLimit) {
  run_ranks(1,
            [](Transport& transport) {
              transport.set_limit(0.1);
              hold_events(true);
              const Mark never = Mark::now(test_device());
              try {
                transport.await(never);
                ADD_FAILURE() << "was reached";
              } catch (const Error& error) {
                EXPECT_THAT(error.what(),
                            HasSubstr("rank 0 waited 0.1 s for its device, test_device:0"));
              }
              hold_events(false);
            },
            {.device = test_device()});
}

// As a device does that waits for a peer which is gone.
TEST_F(DeviceRun, AFailureElsewhereEndsTheWaitForADevice) {
  hold_events(true);
  try {
    run_ranks(2,
              [](Transport& transport) {
                transport.set_limit(60);
                if (transport.rank() == 1) throw Error("rank 1 has failed");
                transport.await(Mark::now(test_device()));
              },
              {.device = test_device()});
    ADD_FAILURE() << "did not fail";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 1 has failed"));
  }
  hold_events(false);
}

// What two ranks that bring these agree on.
std::vector<torch::Device> agreed(const DeviceUse& first, const DeviceUse& second) {
  const Listening listening = listen_on_free_port();
  std::vector<torch::Device> devices(2, torch::kCPU);
  run_ranks(
      2,
      [&](int rank) {
        Rendezvous place;
        place.rank = place.local_rank = rank;
        place.size = place.local_size = 2;
        place.port = listening.port;
        if (rank == 0) place.listen_fd = listening.fd;
        return c10d_transport(place, 30, rank == 0 ? first : second);
      },
      [&](Transport& transport) {
        devices[static_cast<std::size_t>(transport.rank())] = transport.device();
      });
  return devices;
}

TEST(Devices, OneRankWithoutHasAllUseTheCpu) {
  EXPECT_THAT(agreed({test_device()}, {}), testing::Each(torch::Device(torch::kCPU)));
}

TEST(Devices, OneThatIsSharedByMoreThanIsSaidHasAllUseTheCpu) {
  EXPECT_THAT(agreed({test_device(0), 1}, {test_device(0), 1}),
              testing::Each(torch::Device(torch::kCPU)));
  EXPECT_THAT(agreed({test_device(0), 1}, {test_device(1), 1}),
              testing::ElementsAre(test_device(0), test_device(1)));
  EXPECT_THAT(agreed({test_device(0), 2}, {test_device(0), 2}), testing::Each(test_device(0)));
}

}  // namespace
}  // namespace headrace
