// Shards that lie in several folders reach the ranks that need them.
#include "headrace/train/read_share.h"

#include <cstddef>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/text.h"
#include "headrace/checkpoint/write.h"
#include "headrace/transport/local.h"
#include "tests/checkpoint/shares.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Scattered : public testing::Test {
 protected:
  // As two hosts write it, each into a folder of its own.
  void SetUp() override {
    std::vector<std::string> records;
    for (int host = 0; host < 2; ++host) {
      write_share(directory(host), share_of(whole, host, 2), small_naming(), host, 2);
      records.push_back(share_record(directory(host), 3, host));
    }
    for (int host = 0; host < 2; ++host) {
      prepare_checkpoint(directory(host), 3, 2, small_naming(), {"{}", ""},
                         {{1 - host, records[static_cast<std::size_t>(1 - host)]}});
      parts.push_back(name_checkpoint(directory(host), 3));
    }
  }

  fs::path directory(int host) const { return folder / cat("h", host); }

  // Of the ranks that see folders[rank].
  std::vector<ReadShare> read(const std::vector<fs::path>& folders,
                              const std::vector<Wanted>& wanted) {
    std::vector<ReadShare> shares(folders.size());
    run_ranks(static_cast<int>(folders.size()), [&](Transport& transport) {
      const auto rank = static_cast<std::size_t>(transport.rank());
      shares[rank] = read_share(folders[rank], wanted[rank], small_naming(), transport);
    });
    return shares;
  }

  const Folder folder;
  const Snapshot whole = small_snapshot(3);
  const std::vector<std::string> all = names_of(small_naming());
  std::vector<fs::path> parts;
};

TEST_F(Scattered, EachRankGetsWhatItNeeds) {
  // The third sees nothing of the checkpoint, and the fourth needs nothing.
  const std::vector<ReadShare> shares =
      read({parts[0], parts[1], folder / "h2/step-00000003", parts[1]},
           {{.all = all}, {.weights = {"up"}, .all = {"scale"}}, {.all = all}, {}});
  for (const ReadShare& share : shares) EXPECT_EQ(share.fault, "");
  expect_same(shares[0].share, whole);
  expect_same(shares[2].share, whole);
  Snapshot expected = whole;
  for (const std::string& name : all) {
    if (name != "scale" && name != "up") expected.weights.erase(name);
    if (name != "scale") expected.first.erase(name), expected.second.erase(name);
  }
  expect_same(shares[1].share, expected);
  EXPECT_EQ(shares[3].share.numbers, whole.numbers);
}

TEST_F(Scattered, TheFirstRankMayBeNewToTheRun) {
  const std::vector<ReadShare> shares =
      read({folder / "h2/step-00000003", parts[0], parts[1]}, {{.all = all}, {.all = {"up"}}, {}});
  EXPECT_EQ(shares[0].fault, "");
  expect_same(shares[0].share, whole);
}

// As where a run was ended between two hosts' naming of their folders, and then had done the step anew.
TEST_F(Scattered, TwoCheckpointsOfOneStepAreNotTakenForOne) {
  Snapshot other = whole;
  other.first["scale"] += 1;
  const fs::path anew = write_whole(folder / "other", other, 2);
  for (const ReadShare& share : read({parts[0], anew}, {{.all = {"scale"}}, {.all = all}}))
    EXPECT_THAT(share.fault,
                HasSubstr("rank 0 and rank 1 have another checkpoint of this step each"));
}

TEST_F(Scattered, WhatLiesNowhereIsNamed) {
  for (const std::vector<fs::path>& folders :
       {std::vector{parts[0], folder / "h2/step-00000003"}, std::vector{parts[0], parts[0]}})
    for (const ReadShare& share : read(folders, {{.all = {"scale"}}, {.all = all}}))
      EXPECT_THAT(share.fault,
                  AllOf(HasSubstr("first-00002-of-00002.safetensors, "
                                  "model-00002-of-00002.safetensors, "
                                  "second-00002-of-00002.safetensors lie on none of the hosts"),
                        Not(HasSubstr("model-00001"))));
}

TEST_F(Scattered, DamageIsNamedByAllRanks) {
  const fs::path shard = parts[1] / "second-00002-of-00002.safetensors";
  std::string bytes = Folder::read(shard);
  bytes[bytes.size() - 3] ^= 1;
  folder.write("h1/step-00000003/" + shard.filename().string(), bytes);
  for (const ReadShare& share : read({parts[0], parts[1]}, {{.all = all}, {}}))
    EXPECT_THAT(share.fault, AllOf(HasSubstr("rank 1"),
                                   HasSubstr("second-00002-of-00002.safetensors is damaged")));
}

}  // namespace
}  // namespace headrace
