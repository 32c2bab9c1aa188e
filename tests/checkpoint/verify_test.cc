#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/read.h"
#include "headrace/checkpoint/safetensors.h"
#include "headrace/checkpoint/state.h"
#include "tests/checkpoint/shares.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

void put(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// Signs a file anew after an attack, as if it had been written so.
void sign(const fs::path& folder, const std::string& file) {
  Manifest manifest = read_manifest(folder);
  const std::string bytes = Folder::read(folder / file);
  std::erase_if(manifest, [&](const FileRecord& record) { return record.name == file; });
  FileRecord record{file, bytes.size(), checksum_of(std::as_bytes(std::span(bytes)))};
  for (const TensorView& tensor : parse_safetensors(std::as_bytes(std::span(bytes)), file).tensors)
    record.tensors.emplace(tensor.name, checksum_of(tensor.bytes));
  manifest.push_back(std::move(record));
  std::ranges::sort(manifest, {}, &FileRecord::name);
  put(folder / kManifestFile, to_json(manifest));
}

class Verify : public testing::Test {
 protected:
  void SetUp() override { path_ = write_whole(folder_ / "c", small_snapshot(3), 2); }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(path_))
      names.push_back(entry.path().filename().string());
    return names;
  }

  Folder folder_;
  fs::path path_;
};

TEST_F(Verify, EveryChangedByteIsFoundAndItsFileNamed) {
  ASSERT_THAT(verify_checkpoint(path_), IsEmpty());
  for (const std::string& file : files()) {
    const std::string bytes = Folder::read(path_ / file);
    for (std::size_t i = 0; i < bytes.size(); i += 7) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
      put(path_ / file, changed);
      const std::vector<std::string> faults = verify_checkpoint(path_);
      ASSERT_THAT(faults, Not(IsEmpty())) << file << " " << i;
      if (file != kManifestFile) {
        EXPECT_THAT(faults, Contains(HasSubstr((path_ / file).string()))) << i;
      }
    }
    put(path_ / file, bytes);
  }
  EXPECT_THAT(verify_checkpoint(path_), IsEmpty());
}

TEST_F(Verify, EveryCutIsFound) {
  for (const std::string& file : files()) {
    const std::string bytes = Folder::read(path_ / file);
    for (std::size_t size = 0; size < bytes.size(); size += 13) {
      put(path_ / file, bytes.substr(0, size));
      ASSERT_THAT(verify_checkpoint(path_), Contains(HasSubstr((path_ / file).string()))) << size;
    }
    fs::remove(path_ / file);
    ASSERT_THAT(verify_checkpoint(path_), Contains(HasSubstr(file)));
    put(path_ / file, bytes);
  }
}

TEST_F(Verify, ADamagedShardIsNotResumedFrom) {
  for (const char* kind : {"model", "first", "second"}) {
    const fs::path shard = path_ / shard_file(kind, 1, 2);
    const std::string bytes = Folder::read(shard);
    std::string changed = bytes;
    changed.back() = static_cast<char>(changed.back() ^ 1);
    put(shard, changed);
    EXPECT_THAT(
        error_of<Error>([&] { read_checkpoint(path_, names_of(small_naming()), small_naming()); }),
        HasSubstr(shard.string() + " is damaged: the checksum of "));
    put(shard, bytes);
  }
  std::string state = Folder::read(path_ / kStateFile);
  state.replace(state.find("\"step\": 3"), 9, "\"step\": 4");
  put(path_ / kStateFile, state);
  EXPECT_THAT(error_of<Error>([&] { read_checkpoint(path_, {}, small_naming()); }),
              HasSubstr("state.json is damaged"));
}

TEST_F(Verify, OnlyTheTensorsAskedForAreRead) {
  const fs::path shard = path_ / shard_file(kWeights, 0, 2);
  const SafetensorsFile whole(shard);
  const std::string damaged = whole.tensors().back().name;
  std::string changed = Folder::read(shard);
  changed.back() = static_cast<char>(changed.back() ^ 1);
  fs::remove(shard);
  put(shard, changed);
  for (const auto& [name, stored] : small_naming().stored) {
    const auto read = [&] { read_checkpoint(path_, {name}, small_naming()); };
    if (stored.name == damaged) {
      EXPECT_THAT(error_of<Error>(read),
                  HasSubstr(shard.string() + " is damaged: the checksum of " + damaged));
    } else {
      EXPECT_NO_THROW(read()) << name;
    }
  }
}

TEST_F(Verify, TheSumsOfTensorsAreProvedToo) {
  std::string list = Folder::read(path_ / kManifestFile);
  const std::string entry = "\"h.0.up.weight\": \"";
  char& digit = list[list.find(entry) + entry.size()];
  digit = digit == '0' ? '1' : '0';
  put(path_ / kManifestFile, list);
  EXPECT_THAT(verify_checkpoint(path_),
              Contains(HasSubstr("has another checksum of \"h.0.up.weight\" than ")));
}

// Whoever signs them anew: the files must fit one another too.
TEST_F(Verify, FilesThatDoNotFitOneAnother) {
  const fs::path first = path_ / shard_file(kFirst, 0, 2),
                 weights = path_ / shard_file(kWeights, 0, 2);
  const fs::path other = path_ / shard_file(kWeights, 1, 2);
  const std::string moments = Folder::read(first);
  fs::copy_file(other, first, fs::copy_options::overwrite_existing);
  sign(path_, first.filename().string());
  EXPECT_THAT(verify_checkpoint(path_), ElementsAre(HasSubstr(first.string() + " holds ")));
  put(first, moments);
  sign(path_, first.filename().string());
  ASSERT_THAT(verify_checkpoint(path_), IsEmpty());

  put(path_ / "second-00003-of-00003.safetensors", moments);
  EXPECT_THAT(verify_checkpoint(path_), ElementsAre(HasSubstr("is not listed in checksums.json")));
  sign(path_, "second-00003-of-00003.safetensors");
  EXPECT_THAT(verify_checkpoint(path_), ElementsAre(HasSubstr("lists 7 safetensors files, and 6")));
  fs::remove(path_ / "second-00003-of-00003.safetensors");
  EXPECT_THAT(verify_checkpoint(path_), Not(IsEmpty()));
}

TEST_F(Verify, OfAnotherStep) {
  const fs::path moved = checkpoint_folder(folder_ / "c", 4);
  fs::rename(path_, moved);
  EXPECT_THAT(verify_checkpoint(moved), ElementsAre(HasSubstr("state.json is of step 3")));
  EXPECT_THAT(verify_checkpoint(moved / ""), ElementsAre(HasSubstr("state.json is of step 3")));
  fs::rename(moved, folder_ / "kept");
  EXPECT_THAT(verify_checkpoint(folder_ / "kept"), IsEmpty());
}

TEST_F(Verify, WhatIsNoCheckpoint) {
  EXPECT_THAT(verify_checkpoint(folder_ / "none"), ElementsAre(HasSubstr("is no folder")));
  EXPECT_THAT(verify_checkpoint(folder_ / "."),
              ElementsAre(HasSubstr("is no complete checkpoint: it has no checksums.json")));
  put(path_ / "tokenizer.json", "{}");  // what others put beside it is theirs
  EXPECT_THAT(verify_checkpoint(path_), IsEmpty());
}

}  // namespace
}  // namespace headrace
