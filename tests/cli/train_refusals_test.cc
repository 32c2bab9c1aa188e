// What `headrace train` refuses before any process or network starts, and in which words.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/cli/tiny_run.h"

namespace headrace {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class TrainRefusals : public TinyRun {};

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
        Mistake{"--set model.learning_rate=1", {"learning_rate belongs to [optimizer]"}},
        Mistake{"--set optimizer.learning-rate=1", {"did you mean 'learning_rate'?"}},
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
             "a.toml:4: unknown key 'learning_rate' in [model]; learning_rate belongs to "
             "[optimizer]"},
        Slip{
            "learning_rate", "learning-rate",
            "a.toml:18: unknown key 'learning-rate' in [optimizer]; did you mean 'learning_rate'?"},
        Slip{"steps = 3", "steps = \"three\"",
             "a.toml:13: steps in [train] must be a whole number of 1 or more, and is the text "
             "\"three\""},
        Slip{"batch = 24", "steps = 24", "a.toml:14: key 'steps' in [train] is given twice"},
        Slip{"[train]", "[trian]", "a.toml:12: unknown section [trian]; did you mean [train]?"},
        Slip{"batch = 24\n", "\n", "only one is given"}));

TEST_F(TrainRefusals, AllMistakesAreToldAtOnce) {
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

TEST_F(TrainRefusals, SizesThatCannotFitAreRefusedAtOnce) {
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

// The ranks find it out, and it is not tried again.
TEST_F(TrainRefusals, DataThatIsNotThereIsNamedByItsSetting) {
  const Outcome text = train("--set data.text=[\"nope.txt\"] --max-restarts 3");
  EXPECT_EQ(text.code, 2);
  expect_one_error(text.err, HasSubstr("data.text 'nope.txt': no file matches it"));
  const Outcome tokens = train("--set data.tokens=nope --max-restarts 3");
  EXPECT_EQ(tokens.code, 2);
  expect_one_error(tokens.err, HasSubstr("data.tokens: there is no file nope"));
}

TEST_F(TrainRefusals, ATextThatIsTooShortIsNamedByItsSetting) {
  write("a.txt", "To be, or not to");
  const Outcome run = train("--set data.validation=0 --max-restarts 3");
  EXPECT_EQ(run.code, 2);
  expect_one_error(run.err,
                   HasSubstr("data.text (a.txt) has 16 tokens, of which 16 are for training, "
                             "and a sample takes model.context + 1 = 17"));
  EXPECT_THAT(run.err, Not(HasSubstr(".tokens")));
}

}  // namespace
}  // namespace headrace
