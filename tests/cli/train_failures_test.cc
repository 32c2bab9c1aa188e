// What happens to `headrace train` when a setting, a worker or the machine is at fault.
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
#include <sys/socket.h>
#include <unistd.h>

#include "tests/cli/program.h"
#include "tests/cli/tiny_run.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

// One line that begins with "error: ".
template <class Part>
void expect_one_error(const std::string& err, const Part& part) {
  EXPECT_THAT(lines_of(err), testing::ElementsAre(AllOf(StartsWith("error: "), part)));
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

// Wrong settings

struct Mistake {
  std::string arguments;
  std::vector<std::string> parts;  // of the message
};

class TrainMistakes : public TinyRun, public testing::WithParamInterface<Mistake> {};

TEST_P(TrainMistakes, EndsWithTwoAndAnAnswer) {
  const Outcome run = train(GetParam().arguments);
  EXPECT_EQ(run.code, 2);
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, StartsWith("error: "));
  for (const std::string& part : GetParam().parts) EXPECT_THAT(run.err, HasSubstr(part));
}

INSTANTIATE_TEST_SUITE_P(
    Settings,
    TrainMistakes,
    testing::Values(
        Mistake{"--ranks 0", {"ranks in [pipeline]", "1 or more", "0"}},
        Mistake{"--ranks -1", {"ranks in [pipeline]", "1 or more", "-1"}},
        Mistake{"--microbatches 0", {"microbatches in [train]", "1 or more", "0"}},
        Mistake{"--ranks 11", {"10 layers", "11 stages"}},
        Mistake{"--set pipeline.balance=[1,2]", {"pipeline.balance", "3 blocks", "4"}},
        Mistake{"--set pipeline.split=[\"blocks.1.mlp\",\"blocks.1.mlp\"]",
                {"pipeline.split repeats blocks.1.mlp"}},
        Mistake{"--set pipeline.split=[\"embedding\"]", {"pipeline.split repeats embedding"}},
        Mistake{"--set pipeline.split=[\"blocks.4.mlp\"]",
                {"'blocks.4.mlp', which is no layer", "did you mean 'blocks."}},
        Mistake{"--set pipeline.split=[\"head\",\"blocks.1.mlp\"]",
                {"pipeline.split names blocks.1.mlp after head"}},
        Mistake{"--set pipeline.balance=[1,3] --ranks 3", {"2 stages", "pipeline.ranks 3"}},
        Mistake{"--set train.batch=8 --set train.microbatch=2 --microbatches 3",
                {"train.batch is 8", "train.microbatch 2", "train.microbatches 3", "= 6",
                 "train.batch = 6 or train.microbatches = 4 would fit"}},
        Mistake{"--set train.batch=9 --microbatches 2",
                {"train.batch is 9", "train.microbatches 2", "= 1 or 3", "would fit"}},
        Mistake{"--set train.microbatchs=8",
                {"--set train.microbatchs: unknown key", "[train]", "'microbatches'"}},
        Mistake{"--set model.learning_rate=1", {"learning_rate belongs to [train]"}},
        Mistake{"--set train.learning-rate=1", {"did you mean 'learning_rate'?"}},
        Mistake{"--set train.steps=four", {"steps in [train]", "whole number", "\"four\""}},
        Mistake{"--set microbatches=8", {"section.key=value"}},
        Mistake{"--microbatchs 8", {"did you mean --microbatches?"}},
        Mistake{"--schedule 1f1n", {"did you mean '1f1b'?"}}));

struct Slip {
  std::string right;
  std::string wrong;
  std::string message;
};

class TrainSlips : public TinyRun, public testing::WithParamInterface<Slip> {};

TEST_P(TrainSlips, EndWithTwoAndFileLineAndSection) {
  const Slip& slip = GetParam();
  write("a.toml", replaced(kConfig, slip.right, slip.wrong));
  const Outcome run = train("");
  EXPECT_EQ(run.code, 2);
  EXPECT_EQ(run.out, "");
  expect_one_error(run.err, HasSubstr(slip.message));
}

INSTANTIATE_TEST_SUITE_P(
    InTheFile,
    TrainSlips,
    testing::Values(
        Slip{"microbatches = 3", "microbatchs = 3",
             "a.toml:15: unknown key 'microbatchs' in [train]; did you mean 'microbatch' or "
             "'microbatches'?"},
        Slip{"heads = 4", "learning_rate = 1",
             "a.toml:4: unknown key 'learning_rate' in [model]; learning_rate belongs to [train]"},
        Slip{"learning_rate", "learning-rate",
             "a.toml:16: unknown key 'learning-rate' in [train]; did you mean 'learning_rate'?"},
        Slip{"steps = 3", "steps = \"three\"",
             "a.toml:13: steps in [train] must be a whole number of 1 or more, and is the text "
             "\"three\""},
        Slip{"batch = 24", "steps = 24", "a.toml:14: key 'steps' in [train] is given twice"},
        Slip{"[train]", "[trian]", "a.toml:12: unknown section [trian]; did you mean [train]?"},
        Slip{"batch = 24\n", "\n", "only one is given"}));

TEST_F(TrainFailures, AllMistakesAreToldAtOnce) {
  write("a.toml", replaced(replaced(kConfig, "microbatches = 3", "microbatchs = 3"), "heads = 4",
                           "heads = \"four\""));
  const Outcome file = train("--set train.sede=3");
  EXPECT_EQ(file.code, 2);
  EXPECT_THAT(lines_of(file.err),
              testing::ElementsAre("error: 3 faults:", StartsWith("  a.toml:4: heads in [model]"),
                                   StartsWith("  a.toml:15: unknown key 'microbatchs'"),
                                   StartsWith("  --set train.sede: unknown key")));
  write("a.toml", kConfig);
  const Outcome values = train(
      "--set model.heads=5 --set train.batch=25 --ranks 3 "
      "--set pipeline.balance=[2,1] --set train.loss_scale=3");
  EXPECT_EQ(values.code, 2);
  EXPECT_THAT(lines_of(values.err),
              testing::ElementsAre("error: 5 faults:", HasSubstr("train.batch is 25"),
                                   HasSubstr("train.loss_scale"), HasSubstr("model.width is 32"),
                                   HasSubstr("pipeline.balance has 3 blocks"),
                                   HasSubstr("pipeline.balance makes 2 stages")));
}

TEST_F(TrainFailures, SizesThatCannotFitAreRefusedAtOnce) {
  const Outcome layers = train("--set model.layers=2000000000");
  EXPECT_EQ(layers.code, 2);
  expect_one_error(layers.err, HasSubstr("model.layers 2000000000 are too many to describe: "));
  const Outcome width = train("--set model.width=2000000000 --set model.heads=1");
  EXPECT_EQ(width.code, 2);
  expect_one_error(width.err, HasSubstr("parameters, and a gradient of each: "));
  const Outcome microbatches =
      train("--microbatches 2000000000 --set train.microbatch=1 --set train.batch=2000000000");
  EXPECT_EQ(microbatches.code, 2);
  expect_one_error(microbatches.err, HasSubstr("actions of 16 bytes on 2 stages: "));
  const Outcome rows =
      train("--microbatches 2 --set train.microbatch=1000000000 --set train.batch=2000000000");
  EXPECT_EQ(rows.code, 2);
  expect_one_error(rows.err, HasSubstr("the tensors of 2 ranks on this machine: "));
  const Outcome threads = train("--threads 1000000");
  EXPECT_EQ(threads.code, 2);
  expect_one_error(threads.err, HasSubstr("pipeline.threads is 1000000, and a rank has at most "));
  const Outcome replicas = train("--microbatches 4 --set pipeline.replicas=1000000");
  EXPECT_EQ(replicas.code, 2);
  expect_one_error(replicas.err, HasSubstr("pipeline.replicas holds 1000000, and there are 4 "));
}

// The last update has no later step that would find its gradients out.
TEST_F(TrainFailures, WhatIsNotFiniteAfterTheLastStepIsNamed) {
  const std::string sgd = "--steps 1 --set train.optimizer=sgd --set train.learning_rate=";
  const Outcome loss = train(sgd + "1e30");
  EXPECT_EQ(loss.code, 1);
  expect_one_error(loss.err, HasSubstr("the validation loss is nan after step 1; try a lower "
                                       "train.learning_rate"));
  EXPECT_THAT(loss.out, Not(HasSubstr("loss nan")));
  const Outcome weights = train(sgd + "1e300 --set data.validation=0");
  EXPECT_EQ(weights.code, 1);
  expect_one_error(weights.err,
                   AllOf(HasSubstr("the weights "), HasSubstr(" are not finite after step 1;")));
}

TEST_F(TrainFailures, ATextThatIsTooShortIsNamedByItsSetting) {
  write("a.txt", "To be, or not to");
  const Outcome run = train("--set data.validation=0");
  EXPECT_EQ(run.code, 1);
  expect_one_error(run.err,
                   HasSubstr("data.text (a.txt) has 16 tokens, of which 16 are for training, "
                             "and a sample takes model.context + 1 = 17"));
  EXPECT_THAT(run.err, Not(HasSubstr(".tokens")));
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

// Nearly all of this run is evaluation.
TEST_F(TrainFailures, AWorkerKilledInEvaluationIsNamed) {
  const auto program = start_long(
      "--set data.validation=0.8 --set train.evaluate_every=1 --set train.evaluate_sequences=0 "
      "--set train.evaluate_microbatch=1");
  signal_process(program->ranks().at(1), SIGKILL);
  const Outcome& run = program->wait();
  EXPECT_EQ(run.code, 1);
  expect_one_error(run.err, testing::ContainsRegex("rank 1 \\(stage 1\\) was killed by signal 9.*"
                                                   "in evaluation, during 1"));
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
  Program one(rank(1, 2, port, "--run-dir r --set train.learning_rate=0.5"));
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
