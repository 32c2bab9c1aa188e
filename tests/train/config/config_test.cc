#include "headrace/train/config/config.h"

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/train/config/keys.h"
#include "tests/train/config/small.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

Config small(const std::vector<std::string>& settings = {}) {
  return parse_config(kSmall, "a.toml", settings);
}
Config resolved(const std::vector<std::string>& settings = {}) {
  Config config = small(settings);
  resolve(config);
  return config;
}

template <class Action>
std::string usage_error(const Action& action) {
  try {
    action();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
    return error.what();
  }
  return "";
}
std::string file_error(const std::string& toml) {
  return usage_error([&] { parse_config(toml, "a.toml", {}); });
}
std::string set_error(const std::string& setting) {
  return usage_error([&] { small({setting}); });
}
std::string resolve_error(const std::vector<std::string>& settings) {
  return usage_error([&] { resolved(settings); });
}

TEST(Config, ReadsEverySort) {
  const Config config = parse_config(R"(
[model]
tied = false
dropout = 0.1
[data]
text = ["a.txt", "b/*.txt"]
[train]
seed = 7
[optimizer]
learning_rate = 1
[pipeline]
recompute = [0, 2]
balance = [3, 5]
start_limit = "2min"
step_limit = 5
)",
                                     "a.toml", {});
  EXPECT_FALSE(config.model.transformer.tied);
  EXPECT_EQ(config.model.transformer.dropout, 0.1);
  EXPECT_THAT(config.data.text, ElementsAre("a.txt", "b/*.txt"));
  EXPECT_EQ(config.optimizer.learning_rate, 1.0);
  EXPECT_EQ(config.train.seed, 7u);
  EXPECT_EQ(config.pipeline.recompute, RecomputeWish(std::vector{0, 2}));
  EXPECT_THAT(config.pipeline.balance, ElementsAre(3, 5));
  EXPECT_EQ(config.pipeline.start_limit, 120.0);
  EXPECT_EQ(config.pipeline.step_limit, 5.0);
  EXPECT_EQ(config.optimizer.beta2, 0.95);  // not given
}

TEST(Config, RecomputeIsAWordOrAList) {
  const auto recompute = [](const std::string& wish) {
    return small({"pipeline.recompute=" + wish}).pipeline.recompute;
  };
  EXPECT_EQ(recompute("all"), RecomputeWish(Recompute::All));
  EXPECT_EQ(recompute("attention"), RecomputeWish(Recompute::Attention));
  EXPECT_EQ(recompute("none"), RecomputeWish(Recompute::None));
  EXPECT_THAT(set_error("pipeline.recompute=some"),
              HasSubstr("must be \"none\", \"attention\", \"all\" or a list of stages"));
  EXPECT_THAT(set_error("pipeline.recompute=[-1]"), HasSubstr("the list [-1]"));
}

TEST(ConfigMistake, MistypedKey) {
  EXPECT_EQ(file_error("[train]\nsteps = 3\n\nmicrobatchs = 8\n"),
            "a.toml:4: unknown key 'microbatchs' in [train]; did you mean 'microbatch' or "
            "'microbatches'?");
  EXPECT_THAT(file_error("[train]\nzzzzzzzz = 8\n"),
              AllOf(HasSubstr("a.toml:2: "), HasSubstr("(known: steps, epochs,")));
}

TEST(ConfigMistake, KeyOfAnotherSection) {
  EXPECT_EQ(
      file_error("[model]\nlearning_rate = 0.1\n"),
      "a.toml:2: unknown key 'learning_rate' in [model]; learning_rate belongs to [optimizer]");
  EXPECT_THAT(file_error("[model]\nlerning_rate = 0.1\n"),
              HasSubstr("did you mean 'learning_rate', which belongs to [optimizer]?"));
  EXPECT_EQ(file_error("[train]\nevaluate_every = 3\n"),
            "a.toml:2: unknown key 'evaluate_every' in [train]; it is 'every' of [evaluate]");
  EXPECT_EQ(file_error("[train]\noptimizer = \"sgd\"\n"),
            "a.toml:2: unknown key 'optimizer' in [train]; [optimizer] is a section");
  EXPECT_EQ(file_error("steps = 3\n"),
            "a.toml:1: 'steps' stands in no section; steps belongs to [train]");
}

TEST(ConfigMistake, HyphenForUnderscore) {
  EXPECT_EQ(file_error("[optimizer]\nlearning-rate = 0.1\n"),
            "a.toml:2: unknown key 'learning-rate' in [optimizer]; did you mean 'learning_rate'?");
}

TEST(ConfigMistake, UnknownSection) {
  EXPECT_THAT(file_error("\n[trian]\nsteps = 3\n"),
              AllOf(HasSubstr("a.toml:2: unknown section [trian]; did you mean [train]?")));
  EXPECT_THAT(file_error("train = 3\n"), HasSubstr("'train' is a section"));
}

TEST(ConfigMistake, WrongType) {
  EXPECT_EQ(file_error("[train]\nsteps = \"three\"\n"),
            "a.toml:2: steps in [train] must be a whole number of 1 or more, and is the text "
            "\"three\"");
  EXPECT_THAT(file_error("[train]\nsteps = 3.5\n"), HasSubstr("and is the number 3.5"));
  EXPECT_THAT(file_error("[train]\nsteps = [3]\n"), HasSubstr("and is the list [3]"));
  EXPECT_THAT(file_error("[train.steps]\nx = 3\n"), HasSubstr("and is a table"));
  EXPECT_THAT(file_error("[train]\nsteps = 2020-01-01\n"), HasSubstr("and is a date or time"));
  EXPECT_THAT(file_error("[model]\ntied = 1\n"), HasSubstr("must be true or false"));
  EXPECT_THAT(file_error("[data]\ntext = \"a.txt\"\n"), HasSubstr("must be a list"));
  EXPECT_THAT(file_error("[data]\ntext = [\"a.txt\", 3]\n"), HasSubstr("must be a list"));
  EXPECT_THAT(file_error("[pipeline]\nstep_limit = \"5 parsecs\"\n"), HasSubstr("as 30, "));
  // Clocks count nanoseconds in 64 bits.
  EXPECT_THAT(file_error("[pipeline]\nstep_limit = 1e10\n"), HasSubstr("at most 1e8"));
  EXPECT_THAT(file_error("[pipeline]\nstart_limit = \"1000000h\"\n"), HasSubstr("at most 1e8"));
  EXPECT_THAT(file_error("[optimizer]\nkind = \"adam\"\n"),
              AllOf(HasSubstr("one of \"adamw\", \"sgd\""), HasSubstr("did you mean \"adamw\"?")));
}

TEST(ConfigMistake, OutOfRange) {
  EXPECT_THAT(file_error("[train]\nmicrobatches = 0\n"), HasSubstr("of 1 or more, and is"));
  EXPECT_THAT(file_error("[pipeline]\nranks = -1\n"), HasSubstr("the whole number -1"));
  EXPECT_THAT(file_error("[pipeline]\nranks = 0\n"), HasSubstr("of 1 or more"));
  EXPECT_THAT(file_error("[model]\nwidth = 3000000000\n"), HasSubstr("3000000000"));
  EXPECT_THAT(file_error("[model]\ndropout = 1.0\n"), HasSubstr("at least 0 and below 1"));
  EXPECT_THAT(file_error("[optimizer]\nlearning_rate = nan\n"), HasSubstr("the number nan"));
  EXPECT_THAT(file_error("[optimizer]\nclip = inf\n"), HasSubstr("the number inf"));
  EXPECT_THAT(file_error("[train]\nseed = -1\n"), HasSubstr("of 0 or more"));
  EXPECT_THAT(file_error("[pipeline]\nstep_limit = 0\n"), HasSubstr("seconds above 0"));
}

TEST(ConfigMistake, GivenTwice) {
  EXPECT_EQ(file_error("[model]\nlayers = 2\n[train]\nsteps = 3\nsteps = 4\n"),
            "a.toml:5: key 'steps' in [train] is given twice");
  EXPECT_EQ(file_error("[train]\nsteps = 3\n[train]\nbatch = 4\n"),
            "a.toml:3: section 'train' is given twice");
  EXPECT_THAT(file_error("[train]\nsteps = 3\nsteps.more = 4\n"),
              AllOf(HasSubstr("a.toml:3: "), HasSubstr("cannot redefine existing integer")));
}

TEST(ConfigMistake, NotToml) {
  EXPECT_THAT(file_error("[train]\nsteps: 3\n"), AllOf(HasSubstr("a.toml:2: "), HasSubstr("'='")));
  EXPECT_THAT(file_error("[optimizer]\nkind = sgd\n"), HasSubstr("a text stands in quotes"));
  EXPECT_THAT(usage_error([] { read_config("no/such.toml", {}); }),
              AllOf(HasSubstr("no/such.toml"), HasSubstr("No such file")));
  EXPECT_THAT(usage_error([] { read_config(HEADRACE_SOURCE_DIR, {}); }), HasSubstr("folder"));
}

TEST(ConfigMistake, FlagsAreNotKeys) {
  EXPECT_THAT(file_error("run_dir = \"x\"\n"), HasSubstr("--run-dir"));
  EXPECT_THAT(file_error("[train]\ntimeline = true\n"), HasSubstr("--timeline"));
}

TEST(ConfigSet, TakesTomlAndBareWords) {
  const Config config =
      small({"train.steps=20", "optimizer.kind=sgd", "model.tied = false", "data.text=[\"b.txt\"]",
             "pipeline.step_limit=30s", "data.cache=\"a b\"", "optimizer.learning_rate=3e-4",
             "train.steps=21"});
  EXPECT_EQ(config.train.steps, 21);
  EXPECT_EQ(config.optimizer.kind, "sgd");
  EXPECT_FALSE(config.model.transformer.tied);
  EXPECT_THAT(config.data.text, ElementsAre("b.txt"));
  EXPECT_EQ(config.pipeline.step_limit, 30.0);
  EXPECT_EQ(config.data.cache, "a b");
  EXPECT_EQ(config.optimizer.learning_rate, 3e-4);
}

TEST(ConfigSet, IsStrictToo) {
  EXPECT_THAT(set_error("train.stepss=3"),
              AllOf(HasSubstr("--set train.stepss: "), HasSubstr("did you mean 'steps'?")));
  EXPECT_THAT(set_error("model.steps=3"), HasSubstr("steps belongs to [train]"));
  EXPECT_THAT(set_error("trian.steps=3"), HasSubstr("did you mean [train]?"));
  EXPECT_THAT(set_error("optimizer.learning-rate=3"), HasSubstr("'learning_rate'"));
  EXPECT_THAT(set_error("train.steps=many"), HasSubstr("the text \"many\""));
  EXPECT_THAT(set_error("train.steps="), HasSubstr("the text \"\""));
  EXPECT_THAT(set_error("train.steps"), HasSubstr("section.key=value"));
  EXPECT_THAT(set_error("steps=3"), HasSubstr("section.key=value"));
  EXPECT_THAT(set_error("pipeline.balance=[1,"), HasSubstr("--set pipeline.balance: "));
  EXPECT_THAT(set_error("train.steps=1\nx=2"), HasSubstr("must be a whole number"));
}

TEST(ConfigSet, TakesThePlaceOfTheAlternative) {
  EXPECT_EQ(small({"train.epochs=2"}).train.steps, 0);
  const Config tokens = resolved({"data.tokens=a.tokens"});
  EXPECT_TRUE(tokens.data.text.empty());
  EXPECT_THAT(resolve_error({"train.epochs=2", "train.steps=4"}),
              HasSubstr("train.steps 4 and train.epochs 2 are both given"));
}

TEST(ConfigBatch, AnyTwoGiveTheThird) {
  const auto relation = [](const std::string& two) {
    Config config = parse_config("[data]\ntext = [\"a\"]\n[train]\nsteps = 1\n" + two, "a", {});
    resolve(config);
    resolve(config);  // again, as when the ranks become known
    const TrainConfig& t = config.train;
    return std::vector<std::int64_t>{t.batch, t.microbatch, t.microbatches};
  };
  EXPECT_THAT(relation("batch = 12\nmicrobatch = 3\n"), ElementsAre(12, 3, 4));
  EXPECT_THAT(relation("batch = 12\nmicrobatches = 4\n"), ElementsAre(12, 3, 4));
  EXPECT_THAT(relation("microbatch = 3\nmicrobatches = 4\n"), ElementsAre(12, 3, 4));
  EXPECT_THAT(relation("batch = 12\nmicrobatch = 3\nmicrobatches = 4\n"), ElementsAre(12, 3, 4));
  EXPECT_THAT(usage_error([&] { relation("batch = 12\n"); }), HasSubstr("only one is given"));
  EXPECT_THAT(usage_error([&] { relation(""); }), HasSubstr("none is given"));
}

TEST(ConfigBatch, AnImpossibleRelationIsRefusedWithTheArithmetic) {
  EXPECT_EQ(resolve_error({"train.microbatches=3"}),
            "train.batch is 8, but train.microbatch 2 × train.microbatches 3 = 6; train.batch = 6 "
            "or train.microbatches = 4 would fit, or leave one of the three out");
  EXPECT_EQ(resolve_error({"train.microbatch=3"}),
            "train.batch is 8 and train.microbatch 3, so that train.microbatches would be 8 / 3, "
            "not a whole number; train.microbatch = 2 or 4 or train.batch = 6 or 9 would fit");
  EXPECT_THAT(resolve_error({"train.microbatch=100"}),
              HasSubstr("train.microbatch = 8 or train.batch = 100 would fit"));
  EXPECT_THAT(resolve_error({"train.batch=9223372036854775807"}),
              HasSubstr("or train.batch = 9223372036854775806 would fit"));
  EXPECT_THAT(resolve_error({"train.microbatch=9000000000000000000", "train.microbatches=3"}),
              HasSubstr("too large"));
  EXPECT_THAT(set_error("train.microbatches=0"), HasSubstr("1 or more"));
}

TEST(ConfigResolve, Refusals) {
  EXPECT_THAT(resolve_error({"model.width=100", "model.heads=6"}),
              AllOf(HasSubstr("model.width is 100"), HasSubstr("model.heads = 5 or 10")));
  EXPECT_THAT(resolve_error({"model.vocabulary=255"}), HasSubstr("byte tokenizer has 256 ids"));
  EXPECT_THAT(resolve_error({"optimizer.minimum_learning_rate=1"}), HasSubstr("more than"));
  EXPECT_THAT(resolve_error({"pipeline.balance=[3, 4]"}),
              HasSubstr("has 7 blocks in all, and model.layers is 6"));
  EXPECT_THAT(resolve_error({"pipeline.balance=[2, 2, 2]", "pipeline.ranks=2"}),
              AllOf(HasSubstr("makes 3 stages"),
                    HasSubstr("pipeline.ranks 2 × pipeline.stages_per_rank 1 = 2")));
  EXPECT_THAT(resolve_error({"pipeline.split=[\"head\"]", "pipeline.stages_per_rank=3"}),
              HasSubstr("makes 2 stages, not a multiple"));
  EXPECT_THAT(resolve_error({"pipeline.split=[\"head\"]", "pipeline.balance=[3,3]"}),
              HasSubstr("both given"));
  EXPECT_THAT(resolve_error({"pipeline.ranks=2", "pipeline.recompute=[2]"}),
              HasSubstr("names stage 2, and the stages are 0 to 1"));
  EXPECT_THAT(resolve_error({"pipeline.ranks=2", "pipeline.recompute=[1, 1]"}), HasSubstr("twice"));
  Config config = resolved();
  config.data.text.clear();
  EXPECT_THAT(usage_error([&] { resolve(config); }), HasSubstr("no data is given"));
}

TEST(ConfigResolve, AllThatIsWrongIsToldAtOnce) {
  EXPECT_THAT(
      [] {
        resolved({"model.width=100", "model.heads=6", "optimizer.minimum_learning_rate=1",
                  "pipeline.balance=[3, 4]", "train.microbatches=3"});
      },
      testing::ThrowsMessage<UsageError>(
          AllOf(testing::StartsWith("4 faults:\n  train.batch is 8"),
                HasSubstr("\n  optimizer.minimum_learning_rate is 1"),
                HasSubstr("\n  model.width is 100"), HasSubstr("\n  pipeline.balance has 7"))));
  Config config = resolved();
  config.optimizer.beta1 = 1.5;
  config.model.transformer.heads = 0;
  EXPECT_THAT([&] { resolve(config); },
              testing::ThrowsMessage<UsageError>(AllOf(HasSubstr("2 faults:"),
                                                       HasSubstr("beta1 in [optimizer]"),
                                                       HasSubstr("heads in [model]"))));
  EXPECT_THAT([] { parse_config("[model]\nlayer = 2\nwidht = 3\n[dat]\n", "a.toml", {"x=1"}); },
              testing::ThrowsMessage<UsageError>(AllOf(
                  testing::StartsWith("4 faults:\n"), HasSubstr("a.toml:2: unknown key 'layer'"),
                  HasSubstr("a.toml:3: unknown key 'widht'"),
                  HasSubstr("a.toml:4: unknown section [dat]"), HasSubstr("--set x: "))));
}

TEST(ConfigResolve, CountsStayCountable) {
  EXPECT_THAT(resolve_error({"train.batch=6000000000", "train.microbatches=3000000000"}),
              HasSubstr("train.microbatches is 3000000000; it can be at most 2147483647"));
  EXPECT_THAT(resolve_error({"train.batch=4611686018427387904", "train.microbatches=1",
                             "train.microbatch=4611686018427387904"}),
              HasSubstr("tokens are too many"));
}

TEST(ConfigResolve, TheBalanceGivesTheRanks) {
  EXPECT_EQ(resolved({"pipeline.balance=[1, 2, 3]"}).pipeline.ranks, 3);
  EXPECT_EQ(resolved({"pipeline.balance=[1,2,2,1]", "pipeline.stages_per_rank=2"}).pipeline.ranks,
            2);
  EXPECT_EQ(resolved({"pipeline.split=[\"blocks.3.mlp\"]"}).pipeline.ranks, 2);
  EXPECT_EQ(resolved().pipeline.ranks, 0);
}

TEST(ConfigResolve, ChecksWhatWasMadeInCode) {
  Config config = resolved();
  config.optimizer.beta1 = 1.5;
  EXPECT_THAT(usage_error([&] { resolve(config); }),
              HasSubstr("beta1 in [optimizer] must be a number of at least 0 and below 1"));
  config = resolved();
  config.train.seed = ~std::uint64_t{0};
  EXPECT_THAT(usage_error([&] { resolve(config); }), HasSubstr("seed in [train]"));
}

// Reading what was written gives every key the same value, to the last bit.
TEST(ConfigToToml, RepeatsTheRun) {
  Config config =
      resolved({"pipeline.balance=[2, 4]", "pipeline.recompute=[1]", "optimizer.learning_rate=0.1",
                "model.dropout=0.30000000000000004", "optimizer.weight_decay=1e-300",
                "optimizer.clip=12", "train.seed=123456789"});
  config.data.cache = "a \"quoted\" \\ folder\n\tü";
  const Config again = parse_config(to_toml(config), "again", {});
  for (const Key& key : keys())
    EXPECT_EQ(key.get(config), key.get(again)) << key.full_name() << "\n" << to_toml(config);
  EXPECT_EQ(to_toml(again), to_toml(config));
}

TEST(ConfigToToml, RepeatsDefaults) {
  const Config fresh;
  const Config again = parse_config(to_toml(fresh), "again", {});
  for (const Key& key : keys()) EXPECT_EQ(key.get(fresh), key.get(again)) << key.full_name();
}

TEST(ConfigFiles, OfTheRepositoryAreGood) {
  Config config = read_config(HEADRACE_SOURCE_DIR "/configs/shakespeare.toml", {});
  resolve(config);
  // The daily flags must work on it.
  for (const char* flag : {"train.microbatches=16", "train.microbatches=4", "pipeline.ranks=3",
                           "pipeline.ranks=1", "train.steps=5"}) {
    Config changed = read_config(HEADRACE_SOURCE_DIR "/configs/shakespeare.toml", {flag});
    EXPECT_NO_THROW(resolve(changed)) << flag;
  }
}

}  // namespace
}  // namespace headrace
