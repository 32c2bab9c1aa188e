// Whose folder it is: runs that want the same one, one after the other or at once.
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/cli/program.h"
#include "tests/cli/tiny_run.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

class TrainFolder : public TinyRun {
 protected:
  bool exists(const std::string& name) const {
    return std::filesystem::exists(folder().path(name));
  }
};

TEST_F(TrainFolder, AnEarlierRunIsKeptUnlessOverwritten) {
  EXPECT_EQ(train("--ranks 2 --steps 5 --timeline --run-dir r").code, 0);
  const std::string before = read("r/metrics.jsonl");
  const Outcome refused = train("--ranks 2 --run-dir r");
  EXPECT_EQ(refused.code, 2);
  EXPECT_EQ(refused.out, "");
  EXPECT_THAT(refused.err, AllOf(StartsWith("error: r holds an earlier run"),
                                 HasSubstr("--run-dir"), HasSubstr("--overwrite")));
  EXPECT_EQ(read("r/metrics.jsonl"), before);

  write("r/notes.txt", "mine");
  EXPECT_EQ(train("--ranks 2 --run-dir r --overwrite").code, 0);
  EXPECT_THAT(metrics("r"), SizeIs(3));
  EXPECT_FALSE(exists("r/timeline.json"));
  EXPECT_EQ(read("r/notes.txt"), "mine");
}

TEST_F(TrainFolder, ARunThatFailsAtTheStartLeavesTheEarlierOne) {
  EXPECT_EQ(train("--run-dir r").code, 0);
  EXPECT_NE(train("--run-dir r --overwrite --set data.text=[\"none.txt\"]").code, 0);
  EXPECT_THAT(metrics("r"), SizeIs(3));
}

TEST_F(TrainFolder, ARunCanBeRepeatedInItsFolder) {
  EXPECT_EQ(train("--ranks 2 --run-dir r").code, 0);
  const std::vector<std::string> before = metrics("r");
  const Outcome again = Program({.arguments = "train r/config.toml --run-dir r --overwrite",
                                 .environment = {},
                                 .folder = folder().path(),
                                 .command = {}})
                            .wait();
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(metrics("r"), before);
}

TEST_F(TrainFolder, AConfigurationThatSomebodyWroteIsNotReplaced) {
  std::filesystem::create_directory(folder().path("r"));
  write("r/config.toml", kConfig);
  for (const std::string more : {"", " --overwrite"}) {
    const Outcome run = train("--run-dir r" + more);
    EXPECT_EQ(run.code, 2);
    EXPECT_THAT(run.err, HasSubstr("r holds config.toml, which no run wrote"));
  }
  EXPECT_EQ(read("r/config.toml"), kConfig);
}

TEST_F(TrainFolder, OneThatIsUnderWayKeepsIt) {
  Program first(options("--steps 1000000 --run-dir r"));
  ASSERT_TRUE(eventually([&] { return metrics("r").size() >= 2; })) << first.err();
  for (const std::string more : {"", " --overwrite"}) {
    const Outcome second = train("--run-dir r" + more);
    EXPECT_EQ(second.code, 2);
    EXPECT_THAT(second.err, AllOf(StartsWith("error: a run is under way in r (process "),
                                  HasSubstr("--run-dir")));
    EXPECT_EQ(second.out, "");
  }
  first.signal(SIGKILL);  // nobody is left to tidy up
  first.wait();
  EXPECT_EQ(train("--run-dir r --overwrite").code, 0);
  EXPECT_THAT(metrics("r"), SizeIs(3));
}

// Which of them comes first is left to chance; that each has its own is not.
TEST_F(TrainFolder, StartsAtTheSameInstantShareNone) {
  Program first(options("--ranks 1")), second(options("--ranks 1")), third(options("--ranks 1"));
  std::set<std::string> folders;
  for (Program* program : {&first, &second, &third}) {
    const Outcome& run = program->wait();
    EXPECT_EQ(run.code, 0) << run.err;
    for (const std::string& line : lines_of(run.out))
      if (line.starts_with("# run folder: ")) folders.insert(line.substr(14));
  }
  EXPECT_EQ(folders, (std::set<std::string>{"runs/a", "runs/a-2", "runs/a-3"}));
  for (const std::string& one : folders) EXPECT_THAT(metrics(one), SizeIs(3));
}

TEST_F(TrainFolder, TheDefaultOneIsNumberedUnlessOverwritten) {
  EXPECT_NE(train("--set data.text=[\"none.txt\"]").code, 0);  // and takes no number
  EXPECT_THAT(train("--steps 1").out, HasSubstr("# run folder: runs/a\n"));
  EXPECT_THAT(train("--steps 1").out, HasSubstr("# run folder: runs/a-2\n"));
  EXPECT_THAT(train("--steps 2 --overwrite").out, HasSubstr("# run folder: runs/a\n"));
  EXPECT_THAT(metrics("runs/a"), SizeIs(2));
  EXPECT_FALSE(exists("runs/a-3"));
}

// Under another launcher rank 0 alone can tell, and all of them end.
TEST_F(TrainFolder, RanksOfOthersHearOfIt) {
  EXPECT_EQ(train("--run-dir r").code, 0);
  const int port = free_port();
  Program zero(rank(0, 2, port, "--run-dir r"));
  Program one(rank(1, 2, port, "--run-dir r"));
  EXPECT_EQ(zero.wait().code, 2);
  EXPECT_NE(one.wait().code, 0);
  EXPECT_THAT(zero.err() + one.err(), StartsWith("error: r holds an earlier run"));
  EXPECT_THAT(lines_of(zero.err() + one.err()), SizeIs(1));
  EXPECT_THAT(metrics("r"), SizeIs(3));
}

}  // namespace
}  // namespace headrace
