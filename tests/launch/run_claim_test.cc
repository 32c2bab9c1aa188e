#include "headrace/launch/run_claim.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/base/file.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class RunClaims : public testing::Test {
 protected:
  RunClaims() : root_(fs::path(testing::TempDir()) / cat("claims-", ::getpid())) {
    fs::create_directories(root_);
  }
  ~RunClaims() override { fs::remove_all(root_); }

  fs::path at(const std::string& name) const { return root_ / name; }
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories(at(name).parent_path());
    std::ofstream(at(name)) << text;
  }
  // What a run leaves that has done a step.
  void leave_run(const std::string& folder) const {
    write(folder + "/config.toml", cat(kRunMark, "\n"));
    write(folder + "/metrics.jsonl", "{\"step\":1}\n");
  }
  std::string refusal(const std::string& folder, bool overwrite) const {
    try {
      RunClaim::named(at(folder), overwrite);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "accepted";
  }

 private:
  fs::path root_;
};

TEST_F(RunClaims, ANewFolderIsMade) {
  const RunClaim claim = RunClaim::named(at("a/b"), false);
  EXPECT_TRUE(fs::is_directory(at("a/b")));
  EXPECT_EQ(claim.folder(), at("a/b"));
}

TEST_F(RunClaims, OneAtATime) {
  std::optional<RunClaim> first = RunClaim::named(at("a"), false);
  for (const bool overwrite : {false, true})
    EXPECT_THAT(refusal("a", overwrite),
                AllOf(HasSubstr("a run is under way in "), HasSubstr(cat("process ", ::getpid())),
                      HasSubstr("--run-dir"), Not(HasSubstr("--overwrite"))));
  first.reset();
  EXPECT_EQ(refusal("a", false), "accepted");
}

TEST_F(RunClaims, AnEarlierRunIsKept) {
  leave_run("a");
  EXPECT_THAT(refusal("a", false), AllOf(HasSubstr("holds an earlier run"), HasSubstr("--run-dir"),
                                         HasSubstr("--overwrite")));
  EXPECT_EQ(refusal("a", true), "accepted");
  EXPECT_TRUE(fs::exists(at("a/metrics.jsonl")));  // to be deleted when the new run starts
}

TEST_F(RunClaims, ARunWithoutRecordsIsNone) {
  write("a/config.toml", cat(kRunMark, "\n"));
  write("a/metrics.jsonl", "");
  write("a/schedule.csv", "0F0,0B0\n");  // that was searched for
  EXPECT_EQ(refusal("a", false), "accepted");
}

TEST_F(RunClaims, FilesOfOthersAreNeverReplaced) {
  write("a/config.toml", "[train]\nsteps = 3\n");
  write("b/metrics.jsonl", "mine\n");
  write("s/schedule.csv", "0F0,0B0\n");
  for (const bool overwrite : {false, true}) {
    EXPECT_THAT(refusal("a", overwrite),
                AllOf(HasSubstr("holds config.toml, which no run wrote"), HasSubstr("--run-dir")));
    EXPECT_THAT(refusal("b", overwrite), HasSubstr("holds metrics.jsonl, which no run wrote"));
    EXPECT_THAT(refusal("s", overwrite), HasSubstr("holds schedule.csv, which no run wrote"));
  }
  EXPECT_FALSE(fs::exists(at("a/.lock")));
  EXPECT_EQ(read_file(at("a/config.toml")), "[train]\nsteps = 3\n");
  write("c/notes.txt", "mine\n");  // in nobody's way
  EXPECT_EQ(refusal("c", false), "accepted");
}

TEST_F(RunClaims, TheNextFolderThatIsFree) {
  std::optional<RunClaim> first = RunClaim::next(at("runs/x"));
  EXPECT_EQ(first->folder(), at("runs/x"));
  EXPECT_EQ(RunClaim::next(at("runs/x")).folder(), at("runs/x-2"));  // of one under way
  first.reset();
  EXPECT_EQ(RunClaim::next(at("runs/x")).folder(), at("runs/x"));  // which came to nothing
  leave_run("runs/x");
  write("runs/x-2/notes.txt", "mine\n");
  write("runs/x-3", "a file");
  EXPECT_EQ(RunClaim::next(at("runs/x")).folder(), at("runs/x-4"));
}

TEST_F(RunClaims, AFolderThatCannotBeMade) {
  write("file", "");
  EXPECT_THAT(refusal("other", false), "accepted");
  try {
    RunClaim::named(at("file/a"), false);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("file/a"), HasSubstr("--run-dir")));
  }
}

// The process that claimed it is killed, while one that inherited the hold still runs.
TEST_F(RunClaims, IsHeldByWhoInheritsIt) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  std::optional<RunClaim> claim = RunClaim::named(at("a"), false);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(pipe[1]);
    char end = 0;
    const ssize_t got = ::read(pipe[0], &end, 1);  // until the test lets go
    ::_exit(got == 0 ? 0 : 1);
  }
  claim.reset();
  EXPECT_THAT(refusal("a", false), HasSubstr("under way"));
  ::close(pipe[1]);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(refusal("a", false), "accepted");
  ::close(pipe[0]);
}

}  // namespace
}  // namespace headrace
