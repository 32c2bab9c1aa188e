#include "headrace/data/text.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string text_of(const TokenFile& file) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(file.size()));
  file.read(0, ids);
  return {ids.begin(), ids.end()};
}

std::vector<fs::path> token_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() != ".lock") files.push_back(entry.path());
  return files;
}

class Text : public testing::Test {
 protected:
  std::shared_ptr<TokenFile> tokens(const std::string& pattern) const {
    return tokens_from_text({(folder_ / pattern).string()}, *tokenizer_, folder_ / "cache");
  }

  Folder folder_;
  std::unique_ptr<Tokenizer> tokenizer_ = make_tokenizer("byte");
};

TEST_F(Text, JoinsFilesInNameOrder) {
  folder_.write("b.txt", "two ");
  folder_.write("a.txt", "one ");
  folder_.write("c.txt", "three");
  folder_.write("d.md", "no");
  EXPECT_EQ(text_of(*tokens("*.txt")), "one two three");
  const auto listed = tokens_from_text({(folder_ / "c.txt").string(), (folder_ / "*.txt").string()},
                                       *tokenizer_, folder_ / "cache");
  EXPECT_EQ(text_of(*listed), "threeone two ");
  const auto ended = tokens_from_text({(folder_ / "*.txt").string()}, *tokenizer_,
                                      folder_ / "cache", tokenizer_->id_of("|"));
  EXPECT_EQ(text_of(*ended), "one |two |three|");
}

TEST_F(Text, RefusesNoneEmptyAndFolders) {
  EXPECT_THAT(error_of<Error>([&] { tokens("*.txt"); }),
              HasSubstr("/*.txt': no file matches it (looked in "));
  folder_.write("a.txt", "");
  EXPECT_THAT(error_of<Error>([&] { tokens("*.txt"); }),
              HasSubstr("text is empty: 1 file(s), the first "));
  fs::create_directory(folder_ / "plays");
  EXPECT_THAT(error_of<Error>([&] { tokens("plays"); }), HasSubstr("plays/*.txt"));
  EXPECT_THROW(tokens_from_text({}, *tokenizer_, folder_ / "cache"), Error);
}

TEST_F(Text, TheCacheFollowsTheContents) {
  folder_.write("a.txt", "one");
  const fs::path first = tokens("a.txt")->path();
  const auto made = fs::last_write_time(first);
  EXPECT_EQ(tokens("a.txt")->path(), first);
  EXPECT_EQ(fs::last_write_time(first), made);
  const auto written = fs::last_write_time(folder_ / "a.txt");
  folder_.write("a.txt", "two");  // of the same size and date
  fs::last_write_time(folder_ / "a.txt", written);
  EXPECT_EQ(text_of(*tokens("a.txt")), "two");
  EXPECT_NE(tokens("a.txt")->path(), first);
}

TEST_F(Text, ADamagedCacheIsMadeAnew) {
  folder_.write("a.txt", "some text");
  const fs::path cached = tokens("a.txt")->path();
  const std::string good = Folder::read(cached);
  for (const std::string& bad : {good.substr(0, 44), std::string(), "x" + good.substr(1)}) {
    folder_.write("cache/" + cached.filename().string(), bad);
    EXPECT_EQ(text_of(*tokens("a.txt")), "some text");
    EXPECT_EQ(Folder::read(cached), good);
  }
}

TEST_F(Text, LeftoversOfAKilledBuildAreRemoved) {
  folder_.write("a.txt", "some text");
  const fs::path cached = tokens("a.txt")->path();
  fs::rename(cached, cached.string() + ".AbCdEf");
  EXPECT_EQ(text_of(*tokens("a.txt")), "some text");
  EXPECT_EQ(token_files(folder_ / "cache").size(), 1u);
}

TEST_F(Text, TheCacheMustBeWritable) {
  folder_.write("a.txt", "some text");
  folder_.write("cache", "a file, not a folder");
  EXPECT_THAT(error_of<Error>([&] { tokens("a.txt"); }),
              HasSubstr("cache: cannot make the folder "));
}

// Twenty cold starts of four processes, one of them killed now and then.
TEST_F(Text, ProcessesMayStartAtOnce) {
  std::string text;
  for (int i = 0; i < 200000; ++i) text += std::to_string(i) + "\n";
  folder_.write("a.txt", text);
  for (int round = 0; round < 20; ++round) {
    fs::remove_all(folder_ / "cache");
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        try {
          ::_exit(text_of(*tokens("a.txt")) == text ? 0 : 1);
        } catch (...) {
          ::_exit(2);
        }
      }
      children.push_back(child);
    }
    const bool killed = round % 2 == 1;
    if (killed) {
      ::usleep(static_cast<useconds_t>(500 * round));
      ::kill(children[0], SIGKILL);
    }
    for (const pid_t child : children) {
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      if (child == children[0] && killed) continue;
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    }
    EXPECT_EQ(token_files(folder_ / "cache").size(), 1u);
  }
}

}  // namespace
}  // namespace headrace
