// Runs whose workers fail and are started anew, and runs that stop by themselves.
#include <cstdlib>
#include <filesystem>
#include <string>
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
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class TrainRestart : public TinyRun {
 protected:
  // Kills that rank once the run has recorded so many steps.
  void kill_at(const Program& program, std::size_t steps, int rank) const {
    ASSERT_TRUE(eventually([&] {
      const auto ranks = program.ranks();
      return metrics("r").size() >= steps && ranks.contains(rank);
    })) << program.out()
        << program.err();
    signal_process(program.ranks().at(rank), SIGKILL);
  }
  // The records of a run of so many steps that nothing has happened to.
  std::vector<std::string> whole(const std::string& steps) const {
    const Outcome outcome = train("--run-dir whole " + steps);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return metrics("whole");
  }
  void expect_same_weights(const std::string& checkpoint) const {
    ProgramOptions diff = options("");
    diff.arguments =
        "checkpoint diff r/checkpoints/" + checkpoint + " whole/checkpoints/" + checkpoint;
    const Outcome same = Program(diff).wait();
    EXPECT_EQ(same.code, 0) << same.out << same.err;
  }

  static constexpr const char* kSteps = "--steps 300 ";
};

TEST_F(TrainRestart, AKilledWorkerCostsNothingButTime) {
  Program program(
      options("--max-restarts 2 --set checkpoint.every=5 --run-dir r " + std::string(kSteps)));
  kill_at(program, 12, 1);
  const Outcome& run = program.wait();
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(lines_of(run.err),
              ElementsAre(AllOf(
                  StartsWith("restart 1 of 2: rank 1 (stage 1) was killed by signal 9"),
                  HasSubstr("at step "), HasSubstr("; going on from r/checkpoints/step-000"))));
  EXPECT_THAT(run.out, HasSubstr("# resumed: "));
  EXPECT_EQ(metrics("r"), whole(kSteps));
  expect_same_weights("step-00000300");
}

TEST_F(TrainRestart, WithoutACheckpointItBeginsAgain) {
  Program program(options("--max-restarts 1 --run-dir r " + std::string(kSteps)));
  kill_at(program, 6, 0);
  const Outcome& run = program.wait();
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("; going on from the start, as no checkpoint is complete\n"));
  EXPECT_THAT(run.out, Not(HasSubstr("# resumed: ")));
  EXPECT_EQ(metrics("r"), whole(kSteps));
  expect_same_weights("step-00000300");
}

// What the run in the folder before it has left is not gone on from.
TEST_F(TrainRestart, KilledBeforeItHasBegunToOverwrite) {
  ASSERT_EQ(train("--set train.seed=9 --run-dir r").code, 0);
  Program program(options("--max-restarts 1 --overwrite --run-dir r"));
  ASSERT_TRUE(eventually([&] { return program.ranks().contains(1); }));
  signal_process(program.ranks().at(1), SIGKILL);
  const Outcome& run = program.wait();
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("restart 1 of 1"));
  EXPECT_THAT(run.out, Not(HasSubstr("# resumed: ")));
  EXPECT_EQ(metrics("r"), whole(""));
}

// What fails at its own hand fails each time.
TEST_F(TrainRestart, AFailureThatComesAgainEndsTheRun) {
  const Outcome run = train(
      "--max-restarts 5 --set optimizer.kind=sgd --set optimizer.learning_rate=1e30 --run-dir r");
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(lines_of(run.err),
              ElementsAre(AllOf(StartsWith("restart 1 of 5: step 2: the loss is "),
                                HasSubstr("was the first to make a NaN")),
                          AllOf(StartsWith("error: step 2: the loss is "),
                                HasSubstr("it failed there before and has saved nothing since"))));
}

TEST_F(TrainRestart, NotMoreOftenThanItMay) {
  Program program(options("--max-restarts 1 --set checkpoint.every=5 --steps 1000000 --run-dir r"));
  kill_at(program, 6, 1);
  ASSERT_TRUE(
      eventually([&] { return program.err().find("restart 1 of 1") != std::string::npos; }));
  const std::size_t before = metrics("r").size();
  kill_at(program, before + 10, 1);
  const Outcome& run = program.wait();
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.err, HasSubstr("; it was started anew 1 time, as often as it may be\n"));
}

// Between the death of a rank and the start of all.
TEST_F(TrainRestart, ToldToStopItIsNotStartedAnew) {
  Program program(options("--max-restarts 3 --set checkpoint.every=5 --steps 1000000 --run-dir r"));
  kill_at(program, 12, 1);
  program.signal(SIGTERM);
  const Outcome& run = program.wait();
  EXPECT_EQ(run.code, 143) << run.err;
  EXPECT_THAT(run.err, Not(HasSubstr("restart 1 of 3")));
}

TEST_F(TrainRestart, ARankThatIsToldToStopBeforeItHasBegunEndsTheRun) {
  for (const int signal : {SIGTERM, SIGUSR1}) {
    Program program(options("--max-restarts 3 --steps 1000000 --overwrite --run-dir r"));
    ASSERT_TRUE(eventually([&] { return program.ranks().contains(0); }));
    signal_process(program.ranks().at(0), signal);
    const Outcome& run = program.wait();
    EXPECT_EQ(run.code, 143) << run.err;
    EXPECT_EQ(run.err, "");
  }
}

TEST_F(TrainRestart, WhatIsRefusedIsNotTriedAgain) {
  const Outcome run = train("--max-restarts 3 --set train.loss_scale=3 --run-dir r");
  EXPECT_EQ(run.code, 2);
  expect_one_error(run.err, HasSubstr("train.loss_scale"));
  ProgramOptions one = rank(0, 1, free_port(), "--ranks 1 --max-restarts 3 --run-dir r");
  const Outcome ranks = Program(one).wait();
  EXPECT_EQ(ranks.code, 2);
  expect_one_error(ranks.err, HasSubstr("--max-restarts is for ranks that this process starts"));
}

TEST_F(TrainRestart, ByTorchrun) {
  const char* python = std::getenv("HEADRACE_PYTHON");
  const fs::path torchrun = (python != nullptr ? fs::path(python).parent_path()
                                               : fs::path(HEADRACE_SOURCE_DIR) / ".venv/bin") /
                            "torchrun";
  if (!fs::exists(torchrun))
    GTEST_SKIP() << "no " << torchrun << "; set HEADRACE_PYTHON to a Python that has torch";
  const std::vector<std::string> command = {torchrun, "--no-python", "--standalone",
                                            "--max-restarts=2", "--nproc-per-node=2"};
  ProgramOptions nowhere = options("");
  nowhere.command = command;
  const Outcome refused = Program(nowhere).wait(100);
  EXPECT_NE(refused.code, 0);
  EXPECT_THAT(refused.err, HasSubstr("error: torchrun may start this run anew"));

  ProgramOptions wanted = options("--set checkpoint.every=5 --run-dir r " + std::string(kSteps));
  wanted.command = command;
  Program program(wanted);
  kill_at(program, 12, 1);
  const Outcome& run = program.wait(100);
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("# resumed: "));
  EXPECT_EQ(metrics("r"), whole(kSteps));
  expect_same_weights("step-00000300");
}

TEST_F(TrainRestart, ATimeLimitSavesAndStops) {
  const Outcome run = train("--steps 1000000 --set train.time_limit=2 --run-dir r");
  EXPECT_EQ(run.code, 143) << run.err;
  EXPECT_THAT(run.out, HasSubstr("stopped at train.time_limit, after step "));
  const std::size_t done = metrics("r").size();
  ProgramOptions more = options("");
  more.arguments = "train --resume r --set train.time_limit=1h --steps " + std::to_string(done + 3);
  const Outcome rest = Program(more).wait();
  EXPECT_EQ(rest.code, 0) << rest.err;
  EXPECT_EQ(metrics("r").size(), done + 3);
}

// As Slurm sends some time before the end, with --signal=USR1: to the launcher, or to one rank.
TEST_F(TrainRestart, SIGUSR1AsksToStop) {
  Program program(options("--steps 1000000 --run-dir r"));
  ASSERT_TRUE(eventually([&] { return metrics("r").size() >= 3; })) << program.err();
  program.signal(SIGUSR1);
  EXPECT_EQ(program.wait().code, 128 + SIGUSR1) << program.err();
  EXPECT_THAT(program.out(), HasSubstr("stopped as asked, after step "));

  Program other(options("--steps 1000000 --run-dir other"));
  ASSERT_TRUE(eventually([&] { return metrics("other").size() >= 3 && other.ranks().contains(1); }))
      << other.err();
  signal_process(other.ranks().at(1), SIGUSR1);
  EXPECT_EQ(other.wait().code, 143) << other.err();
  EXPECT_THAT(other.out(), HasSubstr("stopped as asked, after step "));
}

}  // namespace
}  // namespace headrace
