// What happens to a writer, and what it leaves.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/read.h"
#include "tests/checkpoint/shares.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

// Whether the checkpoint of step 1 is as it was.
void expect_untouched(const fs::path& directory) {
  EXPECT_THAT(verify_checkpoint(checkpoint_folder(directory, 1)), IsEmpty());
  ASSERT_TRUE(newest_complete(directory).has_value());
  EXPECT_EQ(newest_complete(directory)->step, 1);
}

void expect_writable(const fs::path& directory) {
  const fs::path path = write_whole(directory, small_snapshot(2), 2);
  EXPECT_THAT(verify_checkpoint(path), IsEmpty());
  EXPECT_FALSE(fs::exists(partial_folder(directory, 2)));
}

TEST(WriteFailure, FullDisk) {
  const Folder folder;
  write_whole(folder / "c", small_snapshot(1), 2);
  struct rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = before;
  small.rlim_cur = 100;
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string error = error_of<Error>(
      [&] { write_share(folder / "c", share_of(small_snapshot(2), 1, 2), small_naming(), 1, 2); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(error, AllOf(HasSubstr("rank 1"), HasSubstr("step 2"), HasSubstr("File too large"),
                           HasSubstr("step-00000002.partial/model-00002-of-00002.safetensors")));
  EXPECT_THAT(fs::directory_iterator(partial_folder(folder / "c", 2)), fs::directory_iterator());
  expect_untouched(folder / "c");
  expect_writable(folder / "c");
}

TEST(WriteFailure, WhatIsNoFolder) {
  const Folder folder;
  folder.write("c", "");
  EXPECT_THAT(
      error_of<Error>([&] { write_share(folder / "c", small_snapshot(2), small_naming(), 3, 4); }),
      AllOf(HasSubstr("rank 3"), HasSubstr("Not a directory"), HasSubstr((folder / "c").string())));
}

// Root may write anywhere, so that the device of files that are no files stands for a read-only one.
TEST(WriteFailure, ReadOnlyFolder) {
  EXPECT_THAT(error_of<Error>(
                  [&] { write_share("/proc/headrace", small_snapshot(2), small_naming(), 0, 1); }),
              AllOf(HasSubstr("rank 0"), HasSubstr("/proc/headrace/step-00000002.partial")));
  if (::geteuid() == 0) return;
  const Folder folder;
  write_whole(folder / "c", small_snapshot(1), 2);
  fs::permissions(folder / "c", fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_THAT(
      error_of<Error>([&] { write_share(folder / "c", small_snapshot(2), small_naming(), 0, 1); }),
      HasSubstr("Permission denied"));
  fs::permissions(folder / "c", fs::perms::owner_all);
  expect_untouched(folder / "c");
}

TEST(WriteFailure, KilledAtAnyByte) {
  const Folder folder;
  write_whole(folder / "c", small_snapshot(1), 2);
  int killed = 0;
  // The limit of a file's size kills the writer there.
  for (const rlim_t size : {0, 1, 100, 448, 500, 600, 700, 900, 2000}) {
    const pid_t writer = ::fork();
    if (writer == 0) {
      const struct rlimit limit{size, size};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      write_whole(folder / "c", small_snapshot(2), 2);
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(writer, &status, 0);
    if (WIFSIGNALED(status)) {
      ++killed;
      EXPECT_EQ(WTERMSIG(status), SIGXFSZ);
      EXPECT_TRUE(fs::exists(partial_folder(folder / "c", 2))) << size;
      EXPECT_FALSE(fs::exists(checkpoint_folder(folder / "c", 2))) << size;
      expect_untouched(folder / "c");
    }
  }
  EXPECT_GT(killed, 6);
  expect_writable(folder / "c");
}

TEST(CompleteFailure, ARankWhoseShareIsNotThereIsNamed) {
  const Folder folder;
  const Snapshot whole = small_snapshot(2);
  write_share(folder / "c", share_of(whole, 0, 3), small_naming(), 0, 3);
  write_share(folder / "c", share_of(whole, 1, 3), small_naming(), 1, 3);
  const auto complete = [&] { complete_checkpoint(folder / "c", 2, 3, small_naming(), {}); };
  EXPECT_THAT(error_of<Error>(complete),
              AllOf(HasSubstr("what rank 2 has written is not to be seen"),
                    HasSubstr("shard-00003.json; nothing else may clear")));
  EXPECT_THAT(error_of<Error>([&] { complete_checkpoint(folder / "c", 9, 1, small_naming(), {}); }),
              HasSubstr("what rank 0 has written is not to be seen"));
  Snapshot other = share_of(whole, 2, 3);
  other.numbers["loss_scale"] = 1;
  write_share(folder / "c", other, small_naming(), 2, 3);
  EXPECT_THAT(error_of<Error>(complete), HasSubstr("rank 0 and rank 2 are not of one snapshot"));
  // A killed writer's of another number of ranks.
  write_share(folder / "c", share_of(whole, 2, 4), small_naming(), 2, 4);
  EXPECT_THAT(error_of<Error>(complete), HasSubstr("is of rank 2 of 4, not of rank 2 of 3"));
  write_share(folder / "c", share_of(whole, 2, 3), small_naming(), 2, 3);
  EXPECT_EQ(error_of<Error>(complete), "");
  EXPECT_THAT(verify_checkpoint(checkpoint_folder(folder / "c", 2)), IsEmpty());
}

TEST(CompleteFailure, ParametersMustBeThereOnce) {
  const Folder folder;
  const Snapshot whole = small_snapshot(2);
  write_share(folder / "a", share_of(whole, 0, 2), small_naming(), 0, 1);
  EXPECT_THAT(error_of<Error>([&] { complete_checkpoint(folder / "a", 2, 1, small_naming(), {}); }),
              HasSubstr("no rank has written the parameter embedding"));
  write_share(folder / "b", whole, small_naming(), 0, 2);
  write_share(folder / "b", share_of(whole, 1, 2), small_naming(), 1, 2);
  EXPECT_THAT(
      error_of<Error>([&] { complete_checkpoint(folder / "b", 2, 2, small_naming(), {}); }),
      HasSubstr("h.0.up.weight stands twice: in model-00001-of-00002.safetensors and in model-"
                "00002-of-00002.safetensors"));
}

TEST(CompleteFailure, ATruncatedShardIsNamed) {
  const Folder folder;
  write_shares(folder / "c", small_snapshot(2), 2);
  const fs::path shard = partial_folder(folder / "c", 2) / "first-00002-of-00002.safetensors";
  fs::resize_file(shard, fs::file_size(shard) - 1);
  EXPECT_THAT(error_of<Error>([&] { complete_checkpoint(folder / "c", 2, 2, small_naming(), {}); }),
              AllOf(HasSubstr(shard.string()), HasSubstr("is cut short")));
  EXPECT_FALSE(newest_complete(folder / "c").has_value());
  expect_writable(folder / "c");
}

TEST(Prune, KeepsTheNewest) {
  const Folder folder;
  for (const int step : {10, 20, 30, 40}) write_whole(folder / "c", small_snapshot(step), 2);
  write_shares(folder / "c", small_snapshot(25), 2);
  write_shares(folder / "c", small_snapshot(50), 2);
  fs::rename(checkpoint_folder(folder / "c", 40), folder / "c/step-00000040.deleted");
  folder.write("c/notes.txt", "mine");
  EXPECT_EQ(newest_complete(folder / "c")->step, 30);
  EXPECT_EQ(prune_checkpoints(folder / "c", 2).size(), 3);
  std::vector<std::string> left;
  for (const FoundCheckpoint& found : list_checkpoints(folder / "c"))
    left.push_back(found.path.filename().string());
  EXPECT_THAT(left,
              testing::ElementsAre("step-00000050.partial", "step-00000030", "step-00000020"));
  EXPECT_TRUE(fs::exists(folder / "c/notes.txt"));
  EXPECT_THAT(prune_checkpoints(folder / "c", 2), IsEmpty());
}

TEST(List, NewestFirstWithWhatIsMissing) {
  const Folder folder;
  EXPECT_THAT(list_checkpoints(folder / "none"), IsEmpty());
  for (const int step : {9, 100000000, 20}) write_whole(folder / "c", small_snapshot(step), 2);
  fs::remove(checkpoint_folder(folder / "c", 20) / "model-00002-of-00002.safetensors");
  fs::create_directory(folder / "c/step-9");
  fs::create_directory(folder / "c/step-0000001x");
  const std::vector<FoundCheckpoint> found = list_checkpoints(folder / "c");
  ASSERT_EQ(found.size(), 3);
  EXPECT_EQ(found[0].step, 100000000);
  EXPECT_EQ(found[1].step, 20);
  EXPECT_EQ(found[2].step, 9);
  EXPECT_TRUE(found[0].complete && found[2].complete);
  EXPECT_GT(found[0].bytes, 1000);
  EXPECT_FALSE(found[1].complete);
  EXPECT_THAT(found[1].why, HasSubstr("it lacks model-00002-of-00002.safetensors"));
  const fs::path cut = checkpoint_folder(folder / "c", 100000000) / "state.json";
  fs::resize_file(cut, 10);
  EXPECT_EQ(newest_complete(folder / "c")->step, 9);
  EXPECT_THAT(list_checkpoints(folder / "c")[0].why, HasSubstr("state.json has 10 bytes, not"));
}

}  // namespace
}  // namespace headrace
