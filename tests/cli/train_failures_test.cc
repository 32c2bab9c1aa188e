// What happens to a run of `headrace train` when a worker, another rank or the machine is at fault.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/cli/program.h"
#include "tests/cli/tiny_run.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

class TrainFailures : public TinyRun {
 protected:
  // A run that does not end by itself, past its third step.
  std::unique_ptr<Program> start_long(const std::string& more) const {
    auto program = std::make_unique<Program>(options("--steps 1000000 --run-dir r " + more));
    wait_for_steps(*program);
    return program;
  }
  // As start_long, but each rank a program of its own, as other launchers start them.
  std::vector<std::unique_ptr<Program>> start_long_by_hand(int ranks, const std::string& more) {
    const int port = free_port();
    std::vector<std::unique_ptr<Program>> programs;
    for (int r = 0; r < ranks; ++r)
      programs.push_back(
          std::make_unique<Program>(rank(r, ranks, port, "--steps 1000000 --run-dir r " + more)));
    wait_for_steps(*programs.front());
    return programs;
  }

 private:
  void wait_for_steps(const Program& program) const {
    EXPECT_TRUE(eventually([&] { return metrics("r").size() >= 3; }))
        << program.out() << program.err();
  }
};

// The last update has no later step that would find its gradients out.
TEST_F(TrainFailures, WhatIsNotFiniteAfterTheLastStepIsNamed) {
  const std::string sgd = "--steps 1 --set optimizer.kind=sgd --set optimizer.learning_rate=";
  const Outcome loss = train(sgd + "1e30");
  EXPECT_EQ(loss.code, 1);
  expect_one_error(loss.err, HasSubstr("the validation loss is nan after step 1; try a lower "
                                       "optimizer.learning_rate"));
  EXPECT_THAT(loss.out, Not(HasSubstr("loss nan")));
  const Outcome skipped = train(sgd + "1e30 --set train.not_finite=skip --run-dir skipped");
  EXPECT_EQ(skipped.code, 0) << skipped.err;
  EXPECT_THAT(read("skipped/evaluations.jsonl"), HasSubstr("\"validation_loss\":null"));
  const Outcome weights = train(sgd + "1e300 --set data.validation=0");
  EXPECT_EQ(weights.code, 1);
  expect_one_error(weights.err,
                   AllOf(HasSubstr("the weights "), HasSubstr(" are not finite after step 1;")));
}

TEST_F(TrainFailures, AWorldThatDoesNotFitIsToldOnce) {
  const int port = free_port();
  for (const int r : {0, 1, 7}) {
    const Outcome run = Program(rank(r, 8, port, "--ranks 3")).wait();
    EXPECT_EQ(run.code, 2);
    EXPECT_EQ(run.out, "");
    if (r == 0)
      expect_one_error(run.err, HasSubstr("8 processes / 3 stages leaves 2"));
    else
      EXPECT_EQ(run.err, "");
  }
  const Outcome few = Program(rank(0, 1, port, "--ranks 2")).wait();
  EXPECT_EQ(few.code, 2);
  expect_one_error(few.err, AllOf(HasSubstr("1 process"), HasSubstr("pipeline.ranks is 2")));
}

// Workers that die, stall or were given something else

TEST_F(TrainFailures, AKilledWorkerIsNamed) {
  const auto program = start_long("--ranks 4");
  const auto begin = Clock::now();
  signal_process(program->ranks().at(1), SIGKILL);
  const Outcome& run = program->wait();
  EXPECT_LT(seconds_since(begin), 10);
  EXPECT_EQ(run.code, 1);
  expect_one_error(run.err, testing::ContainsRegex("rank 1 \\(stage 1\\) was killed by signal 9 "
                                                   "\\(Killed\\).* at step [0-9]+, during 1"));
}

// Nearly all of this run is evaluation: one in some kills at most comes within a step.
TEST_F(TrainFailures, AWorkerKilledInEvaluationIsNamed) {
  Outcome run;
  for (int tries = 0; tries < 5 && run.err.find("in evaluation") == std::string::npos; ++tries) {
    const auto program = start_long(
        "--set data.validation=0.8 --set evaluate.every=1 --set evaluate.sequences=0 "
        "--set evaluate.microbatch=1");
    signal_process(program->ranks().at(1), SIGKILL);
    run = program->wait();
  }
  EXPECT_EQ(run.code, 1);
  expect_one_error(run.err, testing::ContainsRegex("rank 1 \\(stage 1\\) was killed by signal 9.*"
                                                   "in evaluation, during 1"));
}

// An evaluation needs larger tensors than the steps before it, and gets none. (Nor does the checkpoint before it get a
// thread, which is no end.)
TEST_F(TrainFailures, AWorkerThatGetsNoMemoryIsNamed) {
  const auto program = start_long(
      "--set evaluate.every=1500 --set evaluate.microbatch=64 --set evaluate.sequences=0 "
      "--set data.validation=0.5 --set checkpoint.every=1000");
  const struct rlimit none{4096, 4096};
  ASSERT_EQ(::prlimit(program->ranks().at(1), RLIMIT_AS, &none, nullptr), 0);
  const Outcome& run = program->wait(120);
  EXPECT_EQ(run.code, 1);
  expect_one_error(run.err, testing::ContainsRegex("rank 1 \\(stage 1\\).* no memory left for a "
                                                   "tensor of .*B"));
}

TEST_F(TrainFailures, AWorkerKilledWhileStartingIsNamed) {
  Program program(options("--ranks 3 --steps 1000000"));
  ASSERT_TRUE(eventually([&] { return program.ranks().contains(2); }));
  signal_process(program.ranks().at(2), SIGKILL);
  const Outcome& run = program.wait();
  EXPECT_LT(run.seconds, 15);
  EXPECT_EQ(run.code, 1);
  expect_one_error(run.err, HasSubstr("rank 2"));
  EXPECT_THAT(run.err, HasSubstr("killed by signal 9"));
}

TEST_F(TrainFailures, AStoppedWorkerIsNamedAtTheStepLimit) {
  const auto program = start_long("--ranks 4 --set pipeline.step_limit=3");
  const auto begin = Clock::now();
  signal_process(program->ranks().at(2), SIGSTOP);
  const Outcome& run = program->wait();
  EXPECT_GT(seconds_since(begin), 2.5);
  EXPECT_LT(seconds_since(begin), 3 + 7);
  EXPECT_EQ(run.code, 1);
  expect_one_error(run.err, AllOf(HasSubstr("rank 2"), HasSubstr("step ")));
  EXPECT_THAT(run.err, HasSubstr("rank 2 (stage 2) is stopped (as by SIGSTOP)"));
}

TEST_F(TrainFailures, AKilledRankWithoutALauncher) {
  const auto programs = start_long_by_hand(4, "");
  const auto begin = Clock::now();
  programs[1]->signal(SIGKILL);
  std::string errors;
  for (const int r : {0, 2, 3}) {
    const Outcome& run = programs[static_cast<std::size_t>(r)]->wait();
    EXPECT_EQ(run.code, 1) << "rank " << r;
    errors += run.err;
  }
  EXPECT_LT(seconds_since(begin), 10);
  expect_one_error(errors, AllOf(HasSubstr("rank 1"), HasSubstr("step ")));
}

// Rank 0 serves the store: what the others use to agree is gone as well.
TEST_F(TrainFailures, RankZeroKilledWithoutALauncher) {
  const auto programs = start_long_by_hand(3, "");
  const auto begin = Clock::now();
  programs[0]->signal(SIGKILL);
  std::string errors;
  for (const int r : {1, 2}) {
    const Outcome& run = programs[static_cast<std::size_t>(r)]->wait();
    EXPECT_EQ(run.code, 1) << "rank " << r;
    errors += run.err;
  }
  EXPECT_LT(seconds_since(begin), 10);
  expect_one_error(errors, HasSubstr("rank 0"));
}

TEST_F(TrainFailures, AStoppedRankWithoutALauncher) {
  const auto programs = start_long_by_hand(4, "--set pipeline.step_limit=3");
  const auto begin = Clock::now();
  programs[2]->signal(SIGSTOP);
  std::string errors;
  for (const int r : {0, 1, 3}) {
    const Outcome& run = programs[static_cast<std::size_t>(r)]->wait();
    EXPECT_EQ(run.code, 1) << "rank " << r;
    errors += run.err;
  }
  EXPECT_LT(seconds_since(begin), 3 + 10);
  expect_one_error(errors, AllOf(HasSubstr("rank 2"), HasSubstr("step ")));
  programs[2]->signal(SIGCONT);
  EXPECT_NE(programs[2]->wait().code, 0);
}

TEST_F(TrainFailures, ASlowStartIsNoHang) {
  const int port = free_port();
  const std::string limits = "--set pipeline.start_limit=30 --set pipeline.step_limit=3";
  Program zero(rank(0, 2, port, limits));
  std::this_thread::sleep_for(std::chrono::seconds(5));
  Program one(rank(1, 2, port, limits));
  EXPECT_EQ(zero.wait().code, 0) << zero.err();
  EXPECT_EQ(one.wait().code, 0) << one.err();
}

TEST_F(TrainFailures, ARankThatNeverComesIsNamedAtTheStartLimit) {
  const Outcome run =
      Program(rank(0, 2, free_port(), "--set pipeline.start_limit=2 --set pipeline.step_limit=60"))
          .wait();
  EXPECT_LT(run.seconds, 10);
  EXPECT_EQ(run.code, 1);
  expect_one_error(run.err, AllOf(HasSubstr("rank 1 of 2"), HasSubstr("within 2.0 s")));
}

TEST_F(TrainFailures, RanksWithDifferentDataAreRefused) {
  write("b.txt", tiny_text(7000));
  const int port = free_port();
  Program zero(rank(0, 2, port, "--run-dir r"));
  Program one(rank(1, 2, port, "--run-dir r --set data.text=[\"b.txt\"]"));
  EXPECT_EQ(zero.wait().code, 1);
  EXPECT_EQ(one.wait().code, 1);
  EXPECT_EQ(zero.out() + one.out(), "");
  expect_one_error(zero.err() + one.err(),
                   AllOf(HasSubstr("different data"), HasSubstr("rank 0"), HasSubstr("rank 1"),
                         HasSubstr("6,000 tokens"), HasSubstr("7,000 tokens")));
}

TEST_F(TrainFailures, RanksWithDifferentConfigurationsAreRefused) {
  const int port = free_port();
  Program zero(rank(0, 2, port, "--run-dir r"));
  Program one(rank(1, 2, port, "--run-dir r --set optimizer.learning_rate=0.5"));
  EXPECT_EQ(zero.wait().code, 1);
  EXPECT_EQ(one.wait().code, 1);
  expect_one_error(zero.err() + one.err(),
                   AllOf(HasSubstr("different configurations"), HasSubstr("learning_rate = 0.01"),
                         HasSubstr("learning_rate = 0.5"), HasSubstr("rank 1")));
}

TEST_F(TrainFailures, APortInUseIsNamed) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(fd, generic, length), 0);
  ASSERT_EQ(::listen(fd, 10), 0);
  ASSERT_EQ(::getsockname(fd, generic, &length), 0);
  const int port = ntohs(address.sin_port);
  Program zero(rank(0, 2, port, ""));
  Program one(rank(1, 2, port, ""));
  for (Program* program : {&zero, &one}) {
    const Outcome& run = program->wait(10);
    EXPECT_EQ(run.code, 1);
    if (program == &one && run.err.empty()) continue;
    expect_one_error(
        run.err, AllOf(HasSubstr("127.0.0.1:" + std::to_string(port)), HasSubstr("MASTER_PORT")));
  }
  ::close(fd);
}

TEST_F(TrainFailures, ALostFileIsToldOnce) {
  const Outcome run = train("--ranks 3 --set data.text=[\"lost*.txt\"]");
  EXPECT_NE(run.code, 0);
  expect_one_error(run.err, HasSubstr("'lost*.txt'"));
}

TEST_F(TrainFailures, AnOutputThatNobodyReadsIsTold) {
  ProgramOptions piped = options("--steps 1000000 --run-dir r");
  piped.command = {"/bin/bash", "-c", "set -o pipefail; \"$0\" \"$@\" | head -n 1"};
  Program program(piped);
  const Outcome& run = program.wait();
  EXPECT_EQ(run.code, 1);
  expect_one_error(run.err, HasSubstr("standard output"));
}

TEST_F(TrainFailures, AnIdOutOfRangeIsTold) {
  ASSERT_EQ(train("--steps 1").code, 0);
  std::string tokens;
  for (const auto& file : std::filesystem::directory_iterator(folder().path("cache")))
    if (file.path().extension() == ".tokens") tokens = file.path().string();
  const Outcome run = train("--set model.vocabulary=100 --set data.tokens=\"" + tokens + "\"");
  EXPECT_NE(run.code, 0);
  expect_one_error(run.err, AllOf(HasSubstr(tokens.substr(tokens.rfind('/'))), HasSubstr("100")));
}

// Stopping it

class TrainStop : public TrainFailures, public testing::WithParamInterface<int> {};

TEST_P(TrainStop, EndsCleanly) {
  const auto program = start_long("--ranks 3");
  const auto begin = Clock::now();
  program->signal(GetParam());
  const Outcome& run = program->wait();
  EXPECT_LT(seconds_since(begin), 10);
  EXPECT_EQ(run.code, 128 + GetParam());
  EXPECT_EQ(run.err, "");
  EXPECT_THAT(run.out, HasSubstr("stopped as asked, after step "));
  EXPECT_THAT(run.out, HasSubstr("peak memory"));
}

INSTANTIATE_TEST_SUITE_P(Signals, TrainStop, testing::Values(SIGINT, SIGTERM));

TEST_F(TrainFailures, ARankThatIsToldToStopStopsAll) {
  const auto programs = start_long_by_hand(3, "");
  programs[1]->signal(SIGTERM);
  for (const auto& program : programs) {
    EXPECT_EQ(program->wait().code, 143);
    EXPECT_EQ(program->err(), "");
  }
  EXPECT_THAT(programs[0]->out(), HasSubstr("stopped as asked, after step "));
}

TEST_F(TrainFailures, ARankThatWaitsForTheOthersCanBeStopped) {
  Program zero(rank(0, 2, free_port(), ""));
  std::this_thread::sleep_for(std::chrono::seconds(2));
  const auto begin = Clock::now();
  zero.signal(SIGTERM);
  zero.wait(10);
  EXPECT_LT(seconds_since(begin), 5);
}

TEST_F(TrainFailures, NoWorkerOutlivesTheLauncher) {
  const auto program = start_long("--ranks 3");
  program->signal(SIGKILL);
  EXPECT_EQ(program->wait().code, -SIGKILL);
}

}  // namespace
}  // namespace headrace
