// Whole runs in this process: ranks are threads.
#include "headrace/train/loop.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/train/resume.h"
#include "headrace/transport/local.h"
#include "tests/train/tiny_config.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class Loop : public testing::Test {
 protected:
  Loop() {
    torch::set_num_threads(1);
    write_tokens(folder_, 2000);
  }

  Config config(const std::string& run, int ranks = 1) const {
    Config config = tiny_config(folder_);
    config.pipeline.ranks = ranks;
    config.run_dir = (folder_ / run).string();
    fs::create_directories(config.run_dir);
    return config;
  }

  // What rank 0 shows.
  std::string train(const Config& config,
                    const std::function<void(TrainingHooks&)>& change = {}) const {
    std::ostringstream out;
    run_ranks(processes_of(config.pipeline), [&](Transport& transport) {
      Console console(out, false);
      TrainingHooks hooks;
      if (transport.rank() == 0) hooks.console = &console;
      if (change) change(hooks);
      run_training(config, transport, hooks);
    });
    return out.str();
  }

  Config resumed(const std::string& run, const std::vector<std::string>& settings = {}) const {
    Config config = resumed_config(folder_ / run, settings);
    resolve(config);
    require_resumable(config);
    return config;
  }

  // Of each line all but its seconds.
  std::vector<std::string> metrics(const std::string& run) const {
    std::vector<std::string> lines;
    std::ifstream file(folder_ / run / "metrics.jsonl");
    for (std::string line; std::getline(file, line);)
      lines.push_back(line.substr(0, line.find(",\"seconds\"")));
    return lines;
  }
  fs::path checkpoint(const std::string& run, std::int64_t step) const {
    return checkpoint_folder(folder_ / run / "checkpoints", step);
  }

  Folder folder_;
};

TEST_F(Loop, ARunLeavesACheckpointThatVerifies) {
  const std::string shown = train(config("a", 2));
  EXPECT_THAT(shown, HasSubstr("checkpoint after step 6: "));
  EXPECT_THAT(verify_checkpoint(checkpoint("a", 6)), IsEmpty());
  EXPECT_EQ(metrics("a").size(), 6U);
}

TEST_F(Loop, CheckpointsComeWhenTheyAreDueAndTheOldestGo) {
  Config wanted = config("a", 2);
  wanted.train.steps = 40;
  wanted.checkpoint.every = 8;
  wanted.checkpoint.keep = 2;
  wanted.checkpoint.at_end = false;
  train(wanted, [](TrainingHooks& hooks) {
    // Long enough for any disk to be done with the one before.
    hooks.on_step = [](std::int64_t step) {
      if (step % 8 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(200));
    };
  });
  std::vector<std::int64_t> steps;
  for (const FoundCheckpoint& found : list_checkpoints(folder_ / "a" / "checkpoints"))
    if (found.complete) steps.push_back(found.step);
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_GE(steps[0], 40);
  EXPECT_LT(steps[1], 40);
}

// A checkpoint takes longer than a step, and the second step has no finite loss.
TEST_F(Loop, ARunThatEndsByANumberThatIsNoneCompletesWhatIsBeingSaved) {
  Config wanted = config("a", 2);
  wanted.optimizer.kind = "sgd";
  wanted.optimizer.learning_rate = 1e30;
  wanted.optimizer.warmup = 0;
  wanted.checkpoint.every = 1;
  EXPECT_THAT(error_of<Error>([&] { train(wanted); }), HasSubstr("step 2: the loss is nan"));
  EXPECT_THAT(verify_checkpoint(checkpoint("a", 1)), IsEmpty());
}

TEST_F(Loop, NoneIsWrittenWhereNoneIsWanted) {
  Config wanted = config("a");
  wanted.checkpoint.at_end = false;
  EXPECT_THAT(train(wanted), Not(HasSubstr("checkpoint")));
  EXPECT_FALSE(fs::exists(folder_ / "a" / "checkpoints"));
}

// Asked to stop at step 3, resumed with three ranks and another schedule: the records are those of a
// run that was left alone.
TEST_F(Loop, AStoppedRunGoesOnAsIfNothingHadBeen) {
  const std::string whole = train(config("whole", 2));
  train(config("a", 2), [](TrainingHooks& hooks) {
    auto steps = std::make_shared<int>(0);
    hooks.stop_requested = [steps] { return ++*steps == 3; };
  });
  EXPECT_EQ(metrics("a").size(), 3U);
  const std::string shown = train(resumed("a", {"pipeline.ranks=3", "pipeline.schedule=zb-h1"}));
  EXPECT_THAT(shown, AllOf(HasSubstr("# resumed: "), HasSubstr(", after step 3")));
  EXPECT_EQ(metrics("a"), metrics("whole"));
  const std::string line = whole.substr(whole.find("validation after step 6"));
  EXPECT_THAT(shown, HasSubstr(line.substr(0, line.find('\n'))));
}

// Records of steps that are done again, and one that was not written whole, go.
TEST_F(Loop, RecordsHaveNeitherGapNorDouble) {
  train(config("whole"));
  Config stopped = config("a");
  train(stopped, [](TrainingHooks& hooks) {
    auto steps = std::make_shared<int>(0);
    hooks.stop_requested = [steps] { return ++*steps == 2; };
  });
  std::ofstream(folder_ / "a" / "metrics.jsonl", std::ios::app)
      << "{\"step\":3,\"loss\":7}\n{\"step\":4,\"lo";
  train(resumed("a"));
  EXPECT_EQ(metrics("a"), metrics("whole"));
}

// Layer 10's name begins as layer 100's does.
TEST_F(Loop, AModelOfAHundredLayersIsSavedWholeAndGoesOn) {
  Config deep = config("a", 2);
  deep.model.transformer.layers = 101;
  deep.model.transformer.width = 8;
  deep.model.transformer.heads = 1;
  deep.train.steps = 2;
  deep.data.validation = 0;
  Config whole = deep;
  whole.run_dir = config("whole").run_dir;
  train(whole);
  train(deep, [](TrainingHooks& hooks) { hooks.stop_requested = [] { return true; }; });
  train(resumed("a", {"pipeline.ranks=3"}));
  EXPECT_EQ(metrics("a"), metrics("whole"));
  EXPECT_THAT(verify_checkpoint(checkpoint("a", 2)), IsEmpty());
}

TEST_F(Loop, ADamagedCheckpointIsPassedOverAndNamed) {
  Config twice = config("a");
  train(twice);
  Config more = resumed("a", {"train.steps=8"});
  train(more);
  const fs::path newest = checkpoint("a", 8);
  for (const auto& entry : fs::directory_iterator(newest))
    if (entry.path().filename().string().starts_with("first-"))
      std::fstream(entry.path(), std::ios::in | std::ios::out | std::ios::binary)
          .seekp(-1, std::ios::end)
          .put('!');
  const std::string shown = train(resumed("a", {"train.steps=10"}));
  EXPECT_THAT(shown, AllOf(HasSubstr("# passed over: " + newest.string()), HasSubstr("first-"),
                           HasSubstr(", after step 6")));
  EXPECT_EQ(metrics("a").size(), 10U);
}

// Its texts are believed only once they are known to be whole.
TEST_F(Loop, ACheckpointWithADamagedTextIsPassedOver) {
  train(config("a"));
  train(resumed("a", {"train.steps=8"}));
  for (const char* name : {"config.toml", "config.json", "state.json"}) {
    const fs::path file = checkpoint("a", 8) / name;
    const std::string whole = Folder::read(file);
    std::string damaged = whole;
    damaged[damaged.find_last_of("0123456789")] ^= 1;
    std::ofstream(file, std::ios::binary) << damaged;
    Config more = resumed("a", {"train.steps=10"});
    more.run_dir.clear();  // leaves everything as it is
    more.checkpoint.directory.clear();
    EXPECT_THAT(train(more),
                AllOf(HasSubstr(name + std::string(" is damaged")), HasSubstr(", after step 6")));
    std::ofstream(file, std::ios::binary) << whole;
  }
}

TEST_F(Loop, AnEvaluationThatAStopDidNotWaitForIsMadeUp) {
  const auto evaluations = [&](const std::string& run) {
    return Folder::read(folder_ / run / "evaluations.jsonl");
  };
  Config whole = config("whole");
  whole.evaluate.every = 2;
  train(whole);
  Config stopped = config("a");
  stopped.evaluate.every = 2;
  train(stopped, [](TrainingHooks& hooks) {
    auto steps = std::make_shared<int>(0);
    hooks.stop_requested = [steps] { return ++*steps == 4; };
  });
  train(resumed("a"));
  EXPECT_EQ(evaluations("a"), evaluations("whole"));
}

TEST_F(Loop, RecordsThatAreGoneAreMissed) {
  train(config("a"));
  fs::remove(folder_ / "a" / "metrics.jsonl");
  EXPECT_THAT(train(resumed("a", {"train.steps=8"})),
              HasSubstr("warning: metrics.jsonl holds 0 records of the 6 steps before"));
}

TEST_F(Loop, ADirectoryOfCheckpointsIsOfOneRun) {
  Config first = config("a");
  first.checkpoint.directory = (folder_ / "shared").string();
  claim_checkpoints(first, false);
  train(first);
  Config second = config("b");
  second.checkpoint.directory = first.checkpoint.directory;
  EXPECT_THAT(error_of<UsageError>([&] { claim_checkpoints(second, false); }),
              AllOf(HasSubstr("checkpoint.directory "), HasSubstr("holds checkpoints of another"),
                    HasSubstr("--overwrite")));
  // The run itself goes on from there, into another one if it is told so.
  train(resumed("a", {"train.steps=7", "checkpoint.directory=" + (folder_ / "moved").string()}));
  EXPECT_EQ(list_checkpoints(folder_ / "moved").front().step, 7);
  claim_checkpoints(second, true);
  EXPECT_THAT(list_checkpoints(folder_ / "shared"), IsEmpty());
}

TEST_F(Loop, AnEpochsDropsAndAnotherBatchGoOnAtTheRightSample) {
  Config epochs = config("a");
  epochs.train.steps = 0;
  epochs.train.epochs = 1;
  train(epochs, [](TrainingHooks& hooks) {
    auto steps = std::make_shared<int>(0);
    hooks.stop_requested = [steps] { return ++*steps == 5; };
  });
  // 199 samples: 20 are done, and 179 take 30 batches of 6.
  const std::string shown = train(resumed("a", {"train.batch=6"}));
  EXPECT_THAT(shown, HasSubstr("step 35/35"));
}

TEST_F(Loop, WhatCannotBeCarriedOverIsRefusedWithBothValues) {
  train(config("a"));
  const auto refusal = [&](const std::vector<std::string>& settings) {
    return error_of<UsageError>([&] { resumed("a", settings); });
  };
  EXPECT_THAT(refusal({"train.steps=9", "model.width=32", "train.seed=7"}),
              AllOf(HasSubstr("model.width is 32, and that of "), HasSubstr(" is 16"),
                    HasSubstr("train.seed is 7, and that of "), HasSubstr(" is 1")));
  EXPECT_THAT(refusal({"train.steps=9", "optimizer.kind=sgd"}), HasSubstr("optimizer.kind"));
  EXPECT_THAT(refusal({}), HasSubstr("nothing is left to do; give more with --steps"));
  EXPECT_THAT(error_of<UsageError>([&] { resumed("nowhere"); }), HasSubstr("is no run's folder"));
  fs::remove_all(folder_ / "a" / "checkpoints");
  EXPECT_THAT(refusal({"train.steps=9"}), HasSubstr("there is no complete checkpoint in "));
}

TEST_F(Loop, OtherDataIsRefused) {
  train(config("a"));
  const Config more = resumed("a", {"train.steps=9"});
  write_tokens(folder_, 2500);
  EXPECT_THAT(error_of<Error>([&] { train(more); }),
              AllOf(HasSubstr("2,500 tokens"), HasSubstr("was another (2,000 tokens, checksum "),
                    HasSubstr("model.from")));
}

TEST_F(Loop, ANewRunBeginsWithTheWeightsAlone) {
  const std::string first = train(config("a"));
  Config from = config("b", 2);
  from.model.from = checkpoint("a", 6).string();
  from.optimizer.learning_rate = 0;
  from.optimizer.minimum_learning_rate = 0;
  const std::string shown = train(from);
  // Nothing is learnt, so that the validation is still that of the first run's end.
  const std::string line = first.substr(first.find(": loss", first.find("validation after")));
  EXPECT_THAT(shown, HasSubstr(line.substr(0, line.find('\n'))));
  EXPECT_THAT(shown, HasSubstr("# begins with the weights of "));
  EXPECT_EQ(metrics("b").size(), 6U);
}

// A folder that cannot be written into. (Root may write anywhere: a file stands in its place.)
TEST_F(Loop, WhereNoCheckpointCanBeWrittenTheRunGoesOnOrEndsAsToldAndFailsAtItsEnd) {
  Config wanted = config("a", 2);
  std::ofstream(folder_ / "taken") << "a file";
  wanted.checkpoint.directory = (folder_ / "taken").string();
  wanted.checkpoint.every = 16;
  wanted.train.steps = 31;
  wanted.checkpoint.at_end = false;
  const std::string shown = train(wanted);
  EXPECT_THAT(shown, AllOf(HasSubstr("warning: no checkpoint could be written after step 16: "),
                           HasSubstr("taken"), HasSubstr("step 31/31")));
  wanted.checkpoint.on_failure = "stop";
  EXPECT_THAT(
      error_of<Error>([&] { train(wanted); }),
      AllOf(HasSubstr("no checkpoint could be written after step 16: "), HasSubstr("taken")));
  wanted.checkpoint.on_failure = "continue";
  wanted.checkpoint.every = 0;
  wanted.checkpoint.at_end = true;
  EXPECT_THAT(error_of<Error>([&] { train(wanted); }),
              HasSubstr("no checkpoint could be written after step 31: "));
}

TEST_F(Loop, RanksThatWereGivenOtherThingsAreRefused) {
  Config one = config("a", 2), other = one;
  other.optimizer.learning_rate = 0.5;
  EXPECT_THAT(error_of<Error>([&] {
                run_ranks(2, [&](Transport& transport) {
                  run_training(transport.rank() == 0 ? one : other, transport, {});
                });
              }),
              AllOf(HasSubstr("learning_rate = 0.01"), HasSubstr("learning_rate = 0.5")));
}

}  // namespace
}  // namespace headrace
