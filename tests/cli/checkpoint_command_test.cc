// headrace checkpoint, on checkpoints that no torch has written.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/safetensors.h"
#include "headrace/checkpoint/shards.h"
#include "headrace/checkpoint/state.h"
#include "tests/cli/program.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

// One tensor "w" of three numbers, without moments.
std::string write_checkpoint(const fs::path& run, std::int64_t step, std::vector<float> numbers) {
  const fs::path folder = checkpoint_folder(run / "checkpoints", step);
  fs::create_directories(folder);
  const std::string shard = shard_file(kWeights, 0, 1);
  SafetensorsWriter writer(folder / shard, {{"w", Dtype::F32, {3}}});
  writer.append(std::as_bytes(std::span(numbers)));
  Manifest files = {
      writer.finish(), write_durably(folder / kModelConfigFile, "{}"),
      write_durably(folder / kRunConfigFile, ""),
      write_durably(folder / kStateFile, to_json(CheckpointState{.step = step, .samples = 8})),
      write_durably(folder / kIndexFile, to_index_json({{"w", shard}}, 12))};
  std::ranges::sort(files, {}, &FileRecord::name);
  write_durably(folder / kManifestFile, to_json(files));
  return folder.string();
}

class CheckpointCommand : public testing::Test {
 protected:
  Outcome run(const std::string& arguments) const {
    Program program({.arguments = "checkpoint " + arguments, .folder = folder_.path()});
    return program.wait();
  }

  Folder folder_;
  std::string a_ = write_checkpoint(folder_.path("run"), 100, {1, 2, 3});
  std::string b_ = write_checkpoint(folder_.path("run"), 200, {1, 2.5, 3});
};

TEST_F(CheckpointCommand, ListsNewestFirst) {
  fs::create_directories(folder_.path("run/checkpoints/step-00000300.partial"));
  const Outcome listed = run("list run");
  EXPECT_EQ(listed.code, 0) << listed.err;
  const std::vector<std::string> lines = lines_of(listed.out);
  ASSERT_EQ(lines.size(), 4) << listed.out;
  EXPECT_THAT(lines[1], AllOf(HasSubstr("300"), HasSubstr("not complete: it is being written")));
  EXPECT_THAT(lines[2], AllOf(HasSubstr("200"), HasSubstr(" complete ")));
  EXPECT_THAT(lines[3], AllOf(HasSubstr("100"), HasSubstr("run/checkpoints/step-00000100")));
  EXPECT_EQ(run("list run/checkpoints").out, listed.out);
  const nlohmann::json json = nlohmann::json::parse(run("list run --format json").out);
  EXPECT_EQ(json.at(1).at("step"), 200);
  EXPECT_EQ(json.at(1).at("state"), "complete");
}

TEST_F(CheckpointCommand, VerifiesOneOrAllOfARun) {
  Outcome verified = run("verify " + a_);
  EXPECT_EQ(verified.code, 0) << verified.err;
  EXPECT_EQ(verified.out, a_ + ": whole\n");
  fs::create_directories(folder_.path("run/checkpoints/step-00000300.partial"));
  verified = run("verify run");
  EXPECT_EQ(verified.code, 0);
  EXPECT_THAT(verified.out,
              AllOf(HasSubstr("step-00000300.partial: passed over"),
                    HasSubstr("step-00000200: whole\n"), HasSubstr("step-00000100: whole\n")));
  fs::resize_file(b_ + "/model-00001-of-00001.safetensors", 100);
  verified = run("verify run");
  EXPECT_EQ(verified.code, 1);
  EXPECT_THAT(verified.out,
              AllOf(HasSubstr("model-00001-of-00001.safetensors is cut short"),
                    HasSubstr("step-00000200: NOT WHOLE: "), HasSubstr("step-00000100: whole\n")));
  EXPECT_EQ(verified.err, "");
  EXPECT_EQ(run("verify run/checkpoints/step-00000300.partial").code, 1);
}

TEST_F(CheckpointCommand, TellsWhatDiffers) {
  Outcome differ = run("diff " + a_ + " " + b_);
  EXPECT_EQ(differ.code, 1);
  EXPECT_EQ(differ.err, "");
  EXPECT_THAT(differ.out, AllOf(HasSubstr("100 and 200"), HasSubstr("values"), HasSubstr("0.5"),
                                HasSubstr("1 of 1 tensors differ, and 1 of the state's")));
  differ = run("diff " + a_ + " " + a_);
  EXPECT_EQ(differ.code, 0);
  EXPECT_EQ(differ.out, "the same: 1 tensors, to the bit\n");
  differ = run("diff --format json " + a_ + " " + b_);
  EXPECT_EQ(nlohmann::json::parse(differ.out).at(1).at("largest"), 0.5);
}

TEST_F(CheckpointCommand, WrongFoldersAreNamed) {
  for (const std::string& arguments : {std::string("list none"), std::string("verify none"),
                                       "diff none " + a_, "diff " + a_ + " none"}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2) << arguments;
    EXPECT_EQ(outcome.err, "error: none is not there\n");
  }
  fs::create_directories(folder_.path("empty"));
  EXPECT_THAT(run("list empty").err, HasSubstr("no checkpoints lie in empty"));
  EXPECT_EQ(run("verify empty").code, 1);
  EXPECT_THAT(run("diff empty empty").err, HasSubstr("no weights lie in empty"));
  EXPECT_EQ(run("").code, 2);
  EXPECT_EQ(run("lst run").code, 2);
}

}  // namespace
}  // namespace headrace
