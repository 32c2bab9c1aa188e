// `headrace train` as people run it: real processes over Gloo, and what they leave behind.
//
// Longer than most files: one fixture, and a case for each thing a run can be asked.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "tests/cli/tiny_run.h"
#include "tests/schedule_lists.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::SizeIs;

class Train : public TinyRun {};

std::vector<std::string> lines_with(const std::string& text, const std::string& part) {
  std::vector<std::string> found;
  for (const std::string& line : lines_of(text))
    if (line.find(part) != std::string::npos) found.push_back(line);
  return found;
}

// Runs over all numbers of ranks and both schedules write the same; at most two at a time.
class TrainSame : public TinyRun, public testing::WithParamInterface<std::string> {
 protected:
  void expect_same(const std::vector<int>& ranks) {
    const std::string settings = GetParam();
    EXPECT_EQ(train(settings + " --ranks 1 --run-dir one").code, 0);
    const std::vector<std::string> expected = metrics("one");
    EXPECT_THAT(expected, SizeIs(3));
    for (const int p : ranks) {
      const std::string more = settings + " --ranks " + std::to_string(p);
      Program gpipe(options(more + " --schedule gpipe --overwrite --run-dir gpipe"));
      Program one_f_one_b(options(more + " --schedule 1f1b --overwrite --run-dir 1f1b"));
      EXPECT_EQ(gpipe.wait().code, 0) << gpipe.err();
      EXPECT_EQ(one_f_one_b.wait().code, 0) << one_f_one_b.err();
      EXPECT_EQ(metrics("gpipe"), expected) << p << " ranks";
      EXPECT_EQ(metrics("1f1b"), expected) << p << " ranks";
    }
  }
};

TEST_P(TrainSame, ForEveryNumberOfRanksAndSchedule) {
  expect_same({2, 3, 4});
}

INSTANTIATE_TEST_SUITE_P(Microbatches,
                         TrainSame,
                         testing::Values("--microbatches 1",
                                         "--microbatches 2",
                                         "--microbatches 3",
                                         "--microbatches 8"));

class TrainSameModels : public TrainSame {};

TEST_P(TrainSameModels, ForEveryNumberOfRanksAndSchedule) {
  expect_same({2, 4});
}

INSTANTIATE_TEST_SUITE_P(
    Models,
    TrainSameModels,
    testing::Values("--set model.tied=false --set model.dropout=0",
                    "--set model.tied=false --set model.dropout=0.1",
                    "--set model.tied=true --set model.dropout=0.1 --set optimizer.kind=sgd"));

// Split backwards, several stages a rank, V shapes: over processes as over threads.
TEST_F(Train, EveryScheduleOverProcessesIsTheSame) {
  EXPECT_EQ(train("--ranks 1 --microbatches 8 --run-dir one").code, 0);
  const std::vector<std::string> expected = metrics("one");
  ASSERT_THAT(expected, SizeIs(3));
  for (const std::string& name : schedules_of_one_copy()) {
    const Outcome run =
        train("--ranks 2 --microbatches 8 --schedule " + name + " --run-dir " + name);
    EXPECT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(metrics(name), expected) << name;
  }
}

// Five sequences of 16 in the last batch of an epoch: another number of microbatches than the
// search was for.
TEST_F(Train, AScheduleIsSearchedFor) {
  write("a.txt", tiny_text(1 + 29 * 16));
  const std::string settings =
      "--set train.epochs=2 --set train.batch=8 --microbatches 8 --set data.validation=0 ";
  EXPECT_EQ(train(settings + "--ranks 1 --run-dir one").code, 0);
  const Outcome run = train(settings + "--ranks 3 --schedule auto --run-dir r");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(metrics("r"), SizeIs(8));
  EXPECT_EQ(metrics("r"), metrics("one"));
  EXPECT_THAT(run.out, AllOf(HasSubstr("schedule auto, 8 microbatches"),
                             HasSubstr("# schedule auto: the best found by the layers' estimated "
                                       "costs; on paper a step takes ")));
  // What was found is a schedule file, with which the run can be repeated.
  EXPECT_EQ(lines_of(read("r/schedule.csv")).size(), 3U);
  EXPECT_EQ(train("--microbatches 8 --ranks 3 --schedule r/schedule.csv").code, 0);
  const Outcome replicas = train("--schedule auto --set pipeline.replicas=2");
  EXPECT_EQ(replicas.code, 2);
  EXPECT_THAT(replicas.err, HasSubstr("'auto' is searched for one pipeline"));
  const Outcome unknown = train("--schedule autp");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean 'auto'?"));
}

// Replicas add gradients in another order: the same on every way to have as many.
TEST_F(Train, ReplicasWithWholeAndShardedOptimizer) {
  EXPECT_EQ(train("--ranks 1 --microbatches 8 --run-dir one").code, 0);
  const std::string replicas = "--microbatches 8 --set pipeline.replicas=2 ";
  EXPECT_EQ(train(replicas + "--ranks 1 --run-dir beside").code, 0);
  EXPECT_EQ(metrics("beside").at(0).substr(0, 30), metrics("one").at(0).substr(0, 30));
  for (const std::string more :
       {"--ranks 2", "--ranks 1 --set pipeline.shard_optimizer=true",
        "--ranks 2 --set pipeline.shard_optimizer=true", "--ranks 2 --schedule zb-h1"}) {
    const Outcome run = train(replicas + more + " --overwrite --run-dir r");
    EXPECT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(metrics("r"), metrics("beside")) << more;
  }
  const Outcome chimera = train("--ranks 2 --microbatches 8 --schedule chimera --run-dir chimera");
  EXPECT_EQ(chimera.code, 0) << chimera.err;
  EXPECT_EQ(metrics("chimera"), metrics("beside"));
}

TEST_F(Train, AStageMayHaveMoreReplicasThanTheNext) {
  const Outcome run = train(
      "--microbatches 9 --set train.microbatch=2 --set train.batch=18 "
      "--set pipeline.replicas=[3,1] --run-dir r");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(metrics("r"), SizeIs(3));
  EXPECT_THAT(lines_with(run.out, "0 1 2"), SizeIs(1));  // the ranks of stage 0
}

TEST_F(Train, AScheduleOfAFile) {
  const std::string program = HEADRACE_PROGRAM;
  const Program exported({.arguments = "export zb-v --ranks 2 --microbatches 8",
                          .environment = {},
                          .folder = folder().path(),
                          .command = {"/bin/sh", "-c", "\"$0\" \"$@\" > mine.csv"}});
  EXPECT_TRUE(eventually([&] { return lines_of(read("mine.csv")).size() == 2; }));
  EXPECT_EQ(train("--ranks 1 --microbatches 8 --run-dir one").code, 0);
  const Outcome run = train("--microbatches 8 --schedule mine.csv --run-dir r");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(metrics("r"), metrics("one"));
  const Outcome few = train("--microbatches 4 --schedule mine.csv");
  EXPECT_EQ(few.code, 2);
  EXPECT_THAT(few.err, AllOf(HasSubstr("is for 8 microbatches"), HasSubstr("a batch has 4")));
  write("mine.csv", "0F0,0B0\n1B0,1F0\n");
  const Outcome broken = train("--microbatches 1 --schedule mine.csv");
  EXPECT_EQ(broken.code, 2);
  EXPECT_THAT(broken.err, HasSubstr("mine.csv"));
}

TEST_F(Train, AsynchronousSchedulesLearn) {
  for (const std::string& name : asynchronous_schedules()) {
    const std::string more = "--ranks 2 --microbatches 8 --steps 20 --schedule " + name + " ";
    const Outcome refused = train(more + "--set pipeline.replicas=2 --set train.precision=fp16");
    EXPECT_EQ(refused.code, 2);
    EXPECT_THAT(refused.err,
                AllOf(HasSubstr("error: 4 faults:\n"), HasSubstr("optimizer.clip = 0"),
                      HasSubstr("train.precision = \"bf16\""), HasSubstr("model.tied = false"),
                      HasSubstr("pipeline.replicas = 1")));
    const Outcome run =
        train(more + "--set optimizer.clip=0 --set model.tied=false --run-dir " + name);
    EXPECT_EQ(run.code, 0) << run.err;
    EXPECT_THAT(run.out, HasSubstr("versions of its weights"));
    const auto loss = [](const std::string& record) {
      return std::stod(record.substr(record.find("loss\":") + 6));
    };
    const std::vector<std::string> records = metrics(name);
    ASSERT_THAT(records, SizeIs(20));
    EXPECT_LT(loss(records.back()), loss(records.front()) - 1);
  }
}

TEST_F(Train, HalfPrecisionIsTheSameForEveryNumberOfRanks) {
  for (const std::string type : {"bf16", "fp16"}) {
    const std::string more = "--microbatches 4 --set train.precision=" + type + " ";
    EXPECT_EQ(train(more + "--ranks 1 --overwrite --run-dir one").code, 0);
    for (const std::string split : {"--ranks 3", "--ranks 2 --schedule zb-v",
                                    "--ranks 2 --set pipeline.recompute=attention"}) {
      const Outcome run = train(more + split + " --overwrite --run-dir r");
      EXPECT_EQ(run.code, 0) << run.err;
      EXPECT_EQ(metrics("r"), metrics("one")) << type << " " << split;
    }
  }
}

// Starts so high that gradients overflow: all ranks leave the same steps out.
TEST_F(Train, TheLossScaleOfFp16ComesDown) {
  const std::string more =
      "--microbatches 4 --steps 24 --set train.precision=fp16 --set "
      "train.loss_scale=1099511627776 ";
  const Outcome two = train(more + "--ranks 2 --run-dir two");
  EXPECT_EQ(two.code, 0) << two.err;
  EXPECT_THAT(two.out, HasSubstr("gradients of step 1 overflowed in fp16: nothing was updated; the "
                                 "loss scale is now 5.49756e+11"));
  const std::vector<std::string> records = metrics("two");
  ASSERT_THAT(records, SizeIs(24));
  EXPECT_THAT(records.front(), HasSubstr("\"grad_norm\":null"));
  EXPECT_THAT(records.back(), Not(HasSubstr("null")));
  EXPECT_EQ(train(more + "--ranks 1 --run-dir one").code, 0);
  EXPECT_EQ(metrics("one"), records);
  EXPECT_THAT(train("--set train.loss_scale=1000").err, HasSubstr("not a power of two"));
}

TEST_F(Train, FewerMicrobatchesThanRanksIsNotedAndFinishes) {
  const Outcome run = train("--ranks 4 --microbatches 2 --run-dir r");
  EXPECT_EQ(run.code, 0);
  EXPECT_EQ(run.err, "");
  EXPECT_THAT(run.out, HasSubstr("fewer microbatches (2) than ranks (4)"));
  EXPECT_THAT(metrics("r"), SizeIs(3));
}

// 1653 bytes: 100 samples to train on and 3 for validation.
TEST_F(Train, AnEpochEndsWithASmallerBatch) {
  write("a.txt", tiny_text(1653));
  const std::string settings =
      "--set train.epochs=1 --set data.validation=0.03 --set train.batch=8 --set "
      "train.microbatch=4 --microbatches 2 --set evaluate.sequences=0";
  const Outcome run = train(settings + " --ranks 2 --run-dir two");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("100 sequences for training, 3 an evaluation"));
  const std::vector<std::string> records = metrics("two");
  ASSERT_THAT(records, SizeIs(13));
  EXPECT_THAT(records[11], HasSubstr("\"tokens\":128"));
  EXPECT_THAT(records[12], HasSubstr("\"tokens\":64"));
  EXPECT_EQ(train(settings + " --ranks 1 --run-dir one").code, 0);
  EXPECT_EQ(metrics("one"), records);
  // A mean over exactly the three rows: not one that depends on how they are cut.
  EXPECT_EQ(read("one/evaluations.jsonl"), read("two/evaluations.jsonl"));
  EXPECT_EQ(train(settings + " --ranks 2 --run-dir three --set evaluate.microbatch=1").code, 0);
  const std::string huge = " --set evaluate.microbatch=9223372036854775807";
  EXPECT_EQ(train(settings + huge + " --ranks 2 --run-dir four").code, 0);
  EXPECT_EQ(read("four/evaluations.jsonl"), read("two/evaluations.jsonl"));
  const auto whole = nlohmann::json::parse(read("two/evaluations.jsonl"));
  const auto by_one = nlohmann::json::parse(read("three/evaluations.jsonl"));
  EXPECT_NEAR(whole.at("validation_loss"), by_one.at("validation_loss"), 1e-5);
  EXPECT_EQ(whole.at("accuracy"), by_one.at("accuracy"));
}

TEST_F(Train, AValidationSplitMustHoldASample) {
  const Outcome small = train("--set data.validation=0.002");
  EXPECT_NE(small.code, 0);
  EXPECT_THAT(lines_of(small.err), SizeIs(1));
  EXPECT_THAT(small.err, AllOf(HasSubstr("error: data.validation keeps 12 of 6000 tokens"),
                               HasSubstr("model.context + 1 = 17")));
  const Outcome none = train("--set data.validation=0 --run-dir none");
  EXPECT_EQ(none.code, 0);
  EXPECT_THAT(none.out, HasSubstr("no validation: data.validation is 0"));
  // So small a share that it keeps no token at all.
  const Outcome nothing = train("--set data.validation=0.0001");
  EXPECT_NE(nothing.code, 0);
  EXPECT_THAT(nothing.err, HasSubstr("error: data.validation keeps 0 of 6000 tokens"));
}

// The rows of the table printed before the first step, as "stage layers".
std::vector<std::string> stages(const Outcome& run) {
  std::vector<std::string> rows;
  for (const std::string& line : lines_of(run.out.substr(0, run.out.find("# run folder")))) {
    if (line.starts_with("#") || line.find("stage") == 0 || line.empty()) continue;
    // "    0     0  embedding … head    59584 …": columns are parted by two spaces or more.
    const std::size_t begin = line.find_first_not_of(" 0123456789");
    const std::size_t end = line.find("  ", begin);
    rows.push_back(line.substr(begin, end - begin));
  }
  return rows;
}

TEST_F(Train, ASplitAndABalanceAreObeyed) {
  EXPECT_EQ(stages(train("--steps 1 --set pipeline.balance=[1,3]")),
            (std::vector<std::string>{"embedding … blocks.0.mlp", "blocks.1.attention … head"}));
  EXPECT_EQ(stages(train("--steps 1 --set pipeline.split=[\"blocks.1.mlp\",\"head\"]")),
            (std::vector<std::string>{"embedding … blocks.1.attention",
                                      "blocks.1.mlp … "
                                      "blocks.3.mlp",
                                      "head"}));
}

// As many stages as there are layers: each on exactly one.
TEST_F(Train, EveryLayerIsOnOneStage) {
  const Outcome run = train("--steps 1 --set model.layers=1 --ranks 4");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(stages(run),
            (std::vector<std::string>{"embedding", "blocks.0.attention", "blocks.0.mlp", "head"}));
}

// Five blocks over four ranks: nothing is dropped, no stage is empty.
TEST_F(Train, AnUnevenNumberOfLayersIsCutWithoutLoss) {
  const Outcome one = train("--set model.layers=5 --ranks 1 --run-dir one");
  const Outcome four = train("--set model.layers=5 --ranks 4 --run-dir four");
  EXPECT_EQ(four.code, 0);
  EXPECT_THAT(stages(four), SizeIs(4));
  EXPECT_EQ(lines_with(four.out, "# model:"), lines_with(one.out, "# model:"));
  EXPECT_EQ(metrics("four"), metrics("one"));
}

TEST_F(Train, TwoHundredStepsOverThreeRanks) {
  const Outcome run = train(
      "--ranks 3 --steps 200 --run-dir r --set model.layers=2 --set model.width=8 --set "
      "model.heads=1 --set model.context=4");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(metrics("r"), SizeIs(200));
}

// What is a matter of the model and the batch is the same whatever the number of ranks.
TEST_F(Train, SizesDoNotDependOnTheRanks) {
  std::vector<std::vector<std::string>> seen;
  for (const char* ranks : {"1", "2", "4"}) {
    const Outcome run = train("--steps 1 --ranks " + std::string(ranks));
    seen.push_back(lines_with(run.out, "MFLOP a token"));
    EXPECT_THAT(seen.back(), testing::ElementsAre(HasSubstr(" parameters, ")));
    EXPECT_THAT(run.out, HasSubstr(" 384 tokens a step"));
  }
  EXPECT_THAT(seen, Each(seen.front()));
}

TEST_F(Train, OneRecordAStepWithEverythingInIt) {
  EXPECT_EQ(train("--ranks 3 --run-dir r").code, 0);
  const std::vector<std::string> lines = lines_of(read("r/metrics.jsonl"));
  ASSERT_THAT(lines, SizeIs(3));
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto record = nlohmann::json::parse(lines[i]);
    EXPECT_EQ(record.at("step"), i + 1);
    EXPECT_EQ(record.at("tokens"), 384);
    for (const char* key : {"loss", "grad_norm", "seconds"}) EXPECT_GT(record.at(key), 0.0) << key;
    EXPECT_EQ(record.at("lr"), std::vector({1e-2, 5e-3, 0.0})[i]);
    EXPECT_LT(record.at("loss"), 6.0);
  }
}

TEST_F(Train, EndsAtOnceAndSaysNothingOnStandardError) {
  Program program(options("--ranks 3 --run-dir r"));
  EXPECT_TRUE(eventually([&] { return metrics("r").size() == 3; }));
  const auto begin = std::chrono::steady_clock::now();
  const Outcome& run = program.wait();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_EQ(run.code, 0);
  EXPECT_EQ(run.err, "");
}

TEST_F(Train, TheRunFolderRepeatsTheRun) {
  EXPECT_EQ(train("--ranks 2 --timeline --run-dir first --schedule gpipe --steps 4 "
                  "--microbatches 2 --set model.dropout=0.1 --set train.seed=7")
                .code,
            0);
  const auto trace = nlohmann::json::parse(read("first/timeline.json"));
  EXPECT_FALSE(trace.at("traceEvents").empty());
  const Outcome again = Program({.arguments = "train first/config.toml --run-dir second",
                                 .environment = {},
                                 .folder = folder().path(),
                                 .command = {}})
                            .wait();
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(metrics("first"), SizeIs(4));
  EXPECT_EQ(metrics("second"), metrics("first"));
  EXPECT_EQ(read("second/config.toml"), read("first/config.toml"));
  EXPECT_FALSE(std::filesystem::exists(folder().path("second/timeline.json")));
}

TEST_F(Train, TwoRunsAtOnceByDefault) {
  Program first(options("--run-dir first"));
  Program second(options("--run-dir second"));
  EXPECT_EQ(first.wait().code, 0) << first.err();
  EXPECT_EQ(second.wait().code, 0) << second.err();
  EXPECT_EQ(metrics("first"), metrics("second"));
}

// 10 samples and batches of 4: the end of the data is crossed twice.
TEST_F(Train, MoreStepsThanTheDataHolds) {
  write("a.txt", tiny_text(161));
  for (const char* ranks : {"1", "3"}) {
    const Outcome run =
        train("--steps 7 --set train.batch=4 --microbatches 2 --set data.validation=0 --run-dir r" +
              std::string(ranks) + " --ranks " + ranks);
    EXPECT_EQ(run.code, 0) << run.err;
    EXPECT_THAT(run.out, HasSubstr("; 10 sequences for training"));
  }
  EXPECT_THAT(metrics("r3"), SizeIs(7));
  EXPECT_EQ(metrics("r3"), metrics("r1"));
}

TEST_F(Train, WithoutATerminalThereIsNoControlCharacter) {
  const Outcome run = train("--ranks 2");
  EXPECT_EQ(std::count_if(run.out.begin(), run.out.end(),
                          [](unsigned char c) { return c < 0x20 && c != '\n'; }),
            0);
  EXPECT_THAT(lines_with(run.out, "step "), Not(testing::IsEmpty()));
}

TEST_F(Train, ATerminalShowsABarAndRemovesIt) {
  ProgramOptions run = options("--ranks 2 --run-dir r");
  // script(1) gives it a terminal.
  run.command = {"sh", "-c", "exec script -qefc \"$*\" /dev/null", "sh"};
  const Outcome outcome = Program(run).wait();
  if (outcome.err.find("script") != std::string::npos) GTEST_SKIP() << outcome.err;
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("[##########....................] 33%  "),
                                 HasSubstr(" left\r\033[K")));
  EXPECT_THAT(metrics("r"), SizeIs(3));
}

}  // namespace
}  // namespace headrace
