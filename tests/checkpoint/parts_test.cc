// Checkpoints of hosts that see no folder together.
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/read.h"
#include "tests/checkpoint/shares.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

// Two hosts: each completes what it has, and knows of the rest.
class TwoFolders : public testing::Test {
 protected:
  void SetUp() override {
    for (int host = 0; host < 2; ++host) {
      const fs::path directory = folder / cat("h", host);
      write_share(directory, share_of(whole, host, 2), small_naming(), host, 2);
      records.push_back(share_record(directory, 3, host));
    }
    for (int host = 0; host < 2; ++host) {
      prepare_checkpoint(folder / cat("h", host), 3, 2, small_naming(),
                         {"{\"model_type\": \"small\"}\n", "[model]\n"},
                         {{1 - host, records[static_cast<std::size_t>(1 - host)]}});
      parts.push_back(name_checkpoint(folder / cat("h", host), 3));
    }
  }

  const Folder folder;
  const Snapshot whole = small_snapshot(3);
  std::vector<std::string> records;
  std::vector<fs::path> parts;
};

TEST_F(TwoFolders, AreOneCheckpointPutTogether) {
  EXPECT_EQ(read_file(parts[0] / kManifestFile), read_file(parts[1] / kManifestFile));
  const FoundCheckpoint found = list_checkpoints(folder / "h1").at(0);
  EXPECT_FALSE(found.complete);
  EXPECT_THAT(found.lacks, testing::ElementsAre("first-00001-of-00002.safetensors",
                                                "model-00001-of-00002.safetensors",
                                                "second-00001-of-00002.safetensors"));
  EXPECT_THAT(verify_checkpoint(parts[1]), Contains(HasSubstr("model-00001-of-00002.safetensors")));
  for (const fs::directory_entry& entry : fs::directory_iterator(parts[1]))
    fs::copy(entry.path(), parts[0], fs::copy_options::skip_existing);
  EXPECT_THAT(verify_checkpoint(parts[0]), IsEmpty());
  EXPECT_TRUE(newest_complete(folder / "h0").has_value());
  expect_same(read_checkpoint(parts[0], names_of(small_naming()), small_naming()), whole);
}

TEST_F(TwoFolders, GiveTheParametersThatTheyHave) {
  const std::vector<std::string> all = names_of(small_naming());
  for (int host = 0; host < 2; ++host) {
    const Snapshot share = share_of(whole, host, 2);
    const auto here = parameters_here(parts[static_cast<std::size_t>(host)], all, small_naming());
    EXPECT_EQ(here.size(), share.weights.size());
    expect_same(read_checkpoint(parts[static_cast<std::size_t>(host)], here, small_naming()),
                share);
  }
  EXPECT_THAT(parameters_here(folder / "h0/step-00000009", all, small_naming()), IsEmpty());
  fs::remove(parts[0] / "second-00001-of-00002.safetensors");
  EXPECT_THAT(parameters_here(parts[0], all, small_naming()), IsEmpty());
}

TEST_F(TwoFolders, KeepAsManyAsOneWould) {
  write_whole(folder / "h0", small_snapshot(2), 2);
  EXPECT_EQ(prune_checkpoints(folder / "h0", 1).size(), 0);  // nothing says that it is a part
  EXPECT_EQ(prune_checkpoints(folder / "h0", 1, /*parts=*/true).size(), 1);
  EXPECT_TRUE(fs::exists(parts[0]));
}

}  // namespace
}  // namespace headrace
