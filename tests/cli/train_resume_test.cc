// Runs that end in the midst, and go on: whole processes, by signals that nothing survives.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/cli/program.h"
#include "tests/cli/tiny_run.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class TrainResume : public TinyRun {
 protected:
  // As many ranks as a launcher would start, by the same words; what rank 0 has shown.
  std::string start_ranks(int size, const std::string& words) const {
    const int port = free_port();
    std::vector<std::unique_ptr<Program>> ranks;
    for (int r = 0; r < size; ++r) {
      ProgramOptions wanted = rank(r, size, port, "");
      wanted.arguments = words;
      ranks.push_back(std::make_unique<Program>(wanted));
    }
    std::string shown = ranks[0]->wait().out;
    for (const auto& each : ranks) EXPECT_EQ(each->wait().code, 0) << each->err();
    return shown;
  }
  static constexpr const char* kLong =
      "--steps 1000000 --set optimizer.decay=constant --set checkpoint.every=1 --run-dir r ";

  Outcome run(const std::string& arguments) const {
    ProgramOptions wanted = options("");
    wanted.arguments = arguments;
    return Program(wanted).wait();
  }
  // Names of complete checkpoints, newest first.
  std::vector<std::string> complete() const {
    std::vector<std::string> names;
    const fs::path directory = folder().path("r/checkpoints");
    if (!fs::exists(directory)) return names;
    for (const auto& entry : fs::directory_iterator(directory)) {
      const std::string name = entry.path().filename();
      if (name.find('.') == std::string::npos) names.push_back(name);
    }
    std::sort(names.rbegin(), names.rend());
    return names;
  }
  static int step_of(const std::string& name) { return std::stoi(name.substr(5)); }
  // Ends all processes of a run at once.
  static void kill(Program& program) {
    program.signal(SIGKILL);  // the workers die with their launcher
    program.wait();
  }
};

TEST_F(TrainResume, AKilledRunGoesOnToTheBitWithAnyNumberOfRanks) {
  Program program(options(kLong));
  ASSERT_TRUE(eventually([&] { return !complete().empty() && metrics("r").size() >= 6; }))
      << program.out() << program.err();
  kill(program);
  const int last = step_of(complete().front()) + 4;
  const std::string steps = "--steps " + std::to_string(last);
  const Outcome whole = train(steps + " --set optimizer.decay=constant --run-dir whole");
  ASSERT_EQ(whole.code, 0) << whole.err;
  for (const std::string more : {"", "--ranks 1", "--ranks 3 --schedule zb-h1"}) {
    fs::remove_all(folder().path("again"));
    fs::copy(folder().path("r"), folder().path("again"), fs::copy_options::recursive);
    const Outcome again = run("train --resume again " + steps + " " + more);
    EXPECT_EQ(again.code, 0) << again.err;
    EXPECT_THAT(again.out, HasSubstr("# resumed: "));
    EXPECT_EQ(metrics("again"), metrics("whole")) << more;
    const Outcome same =
        run("checkpoint diff again/checkpoints/step-" +
            std::string(8 - std::to_string(last).size(), '0') + std::to_string(last) +
            " whole/checkpoints/step-" + std::string(8 - std::to_string(last).size(), '0') +
            std::to_string(last));
    EXPECT_EQ(same.code, 0) << same.out << same.err;
  }
}

TEST_F(TrainResume, ARunThatIsAskedToStopLeavesWhereItWas) {
  Program program(options("--steps 1000000 --run-dir r"));
  ASSERT_TRUE(eventually([&] { return metrics("r").size() >= 3; })) << program.err();
  program.signal(SIGTERM);
  EXPECT_EQ(program.wait().code, 143) << program.err();
  ASSERT_EQ(complete().size(), 1U);
  EXPECT_EQ(static_cast<std::size_t>(step_of(complete().front())), metrics("r").size());
  EXPECT_THAT(program.out(), HasSubstr("checkpoint after step "));
}

// Other launchers start each rank by itself: rank 0 alone knows the folder.
TEST_F(TrainResume, UnderOtherLaunchersToo) {
  start_ranks(2, "train a.toml --run-dir r");
  EXPECT_THAT(start_ranks(2, "train --resume r --steps 5"),
              AllOf(HasSubstr("after step 3"), HasSubstr("step 5/5")));
  EXPECT_EQ(metrics("r").size(), 5U);
}

// A machine that is gone, and another that comes.
TEST_F(TrainResume, ElasticRunsGoOnWithAsManyRanksAsThereAre) {
  const std::string more = " --set optimizer.decay=constant --ranks ";
  start_ranks(3, "train a.toml --elastic --run-dir r" + more + "3");
  const std::string fewer = start_ranks(2, "train --resume r --steps 5 --elastic");
  EXPECT_THAT(fewer,
              AllOf(HasSubstr("# laid out anew: 2 processes instead of 3: ranks 3 -> 2; by "),
                    HasSubstr(" times as long\n# resumed: ")));
  EXPECT_THAT(start_ranks(4, "train --resume r --steps 7 --elastic"),
              HasSubstr("# laid out anew: 4 processes instead of 2: ranks 2 -> 4; by "));
  EXPECT_EQ(train("--run-dir whole --steps 7" + more + "1").code, 0);
  EXPECT_EQ(metrics("r"), metrics("whole"));
  const Outcome alone = run("train a.toml --elastic");
  EXPECT_EQ(alone.code, 2);
  expect_one_error(alone.err, HasSubstr("--elastic is for ranks that a launcher"));
}

TEST_F(TrainResume, WhatDoesNotFitIsRefusedBeforeAnythingStarts) {
  const Outcome neither = run("train");
  EXPECT_EQ(neither.code, 2);
  expect_one_error(neither.err, HasSubstr("give a configuration, or --resume"));
  const Outcome both = run("train a.toml --resume r");
  EXPECT_EQ(both.code, 2);
  expect_one_error(both.err, HasSubstr("both given"));
  const Outcome none = run("train --resume r");
  EXPECT_EQ(none.code, 2);
  expect_one_error(none.err, HasSubstr("is no run's folder"));
  ASSERT_EQ(train("--run-dir r").code, 0);
  const Outcome done = run("train --resume r");
  EXPECT_EQ(done.code, 2);
  expect_one_error(done.err, HasSubstr("nothing is left to do; give more with --steps"));
  const Outcome wider = run("train --resume r --steps 9 --set model.width=64");
  EXPECT_EQ(wider.code, 2);
  expect_one_error(wider.err, AllOf(HasSubstr("model.width is 64"), HasSubstr(" is 32")));
  Program busy(options("--steps 1000000 --run-dir busy"));
  ASSERT_TRUE(eventually([&] { return metrics("busy").size() >= 1; })) << busy.err();
  const Outcome second = run("train --resume busy --steps 9");
  EXPECT_EQ(second.code, 2);
  EXPECT_THAT(second.err, HasSubstr("error: "));
  busy.signal(SIGTERM);
  busy.wait();
}

// Killed at moments that nobody has chosen, most of them in the midst of writing: the newest
// complete checkpoint is whole, the run goes on from it, and its records have no gap.
// HEADRACE_CRASHES says how many times (8).
TEST_F(TrainResume, SurvivesBeingKilledAtAnyMoment) {
  const char* wanted = std::getenv("HEADRACE_CRASHES");
  const int crashes = wanted == nullptr ? 8 : std::atoi(wanted);
  const unsigned seed = std::random_device()();
  std::mt19937 random(seed);
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  int before = 0;
  for (int crash = 0; crash < crashes; ++crash) {
    const bool first = complete().empty();
    if (first) fs::remove_all(folder().path("r"));
    ProgramOptions how = options(kLong);
    if (!first) how.arguments = "train --resume r";
    Program program(how);
    ASSERT_TRUE(eventually([&] {
      return !complete().empty() && step_of(complete().front()) > before;
    })) << program.out()
        << program.err();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60000));
    kill(program);
    before = step_of(complete().front());
    for (const std::string& name : complete()) {
      const Outcome verified = run("checkpoint verify r/checkpoints/" + name);
      EXPECT_EQ(verified.code, 0) << "crash " << crash << ": " << verified.out << verified.err;
    }
  }
  const std::string steps = std::to_string(before + 2);
  const Outcome last = run("train --resume r --steps " + steps);
  EXPECT_EQ(last.code, 0) << last.err;
  const std::vector<std::string> records = metrics("r");
  ASSERT_EQ(std::to_string(records.size()), steps);
  for (std::size_t i = 0; i < records.size(); ++i)
    EXPECT_THAT(records[i], StartsWith("{\"step\":" + std::to_string(i + 1) + ","));
}

}  // namespace
}  // namespace headrace
