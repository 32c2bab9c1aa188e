#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/checkpoint/diff.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/read.h"
#include "headrace/checkpoint/safetensors.h"
#include "tests/checkpoint/shares.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// With one tensor in the Hugging Face folder `folder`.
void write_single(const fs::path& path, const TensorInfo& info, const std::string& bytes) {
  SafetensorsWriter writer(path, {info});
  writer.append(std::as_bytes(std::span(bytes.data(), bytes.size())));
  writer.finish();
}

TEST(Checkpoint, KeepsASnapshotOverAnyNumberOfRanks) {
  const Folder folder;
  for (const int ranks : {1, 2, 3, 5, 8}) {
    const Snapshot whole = small_snapshot(10 + ranks);
    const fs::path path = write_whole(folder / "checkpoints", whole, ranks);
    EXPECT_EQ(path, folder / "checkpoints" / ("step-000000" + std::to_string(10 + ranks)));
    EXPECT_THAT(verify_checkpoint(path), IsEmpty());
    expect_same(read_checkpoint(path, names_of(small_naming()), small_naming()), whole);
    // By any other number of ranks.
    for (int rank = 0; rank < 2; ++rank) {
      const Snapshot share = share_of(whole, rank, 2);
      std::vector<std::string> names;
      for (const auto& [name, tensor] : share.weights) names.push_back(name);
      expect_same(read_checkpoint(path, names, small_naming()), share);
      expect_same(read_weights(path, names, small_naming()), share.weights);
    }
    expect_same(read_checkpoint(path, {}, small_naming()), share_of(whole, 2, 3));
  }
}

TEST(Checkpoint, RanksWriteAtTheSameTime) {
  const Folder folder;
  const Snapshot whole = small_snapshot(7);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 4; ++rank)
    ranks.emplace_back([&, rank] {
      write_share(folder / "c", share_of(whole, rank, 4), small_naming(), rank, 4);
    });
  for (std::thread& rank : ranks) rank.join();
  const fs::path path = complete_checkpoint(folder / "c", 7, 4, small_naming(), {"{}", ""});
  EXPECT_THAT(verify_checkpoint(path), IsEmpty());
  expect_same(read_checkpoint(path, names_of(small_naming()), small_naming()), whole);
}

TEST(Checkpoint, MatricesAreTransposedAndNothingElseIs) {
  const Folder folder;
  const Snapshot whole = small_snapshot(1);
  const fs::path path = write_whole(folder / "c", whole, 1);
  for (const auto& [kind, tensors] :
       {std::pair(kWeights, &whole.weights), std::pair(kFirst, &whole.first),
        std::pair(kSecond, &whole.second)}) {
    const SafetensorsFile file(path / shard_file(kind, 0, 1));
    for (const auto& [name, stored] : small_naming().stored) {
      const TensorView* view = file.find(stored.name);
      ASSERT_NE(view, nullptr);
      const torch::Tensor& ours = tensors->at(name);
      const torch::Tensor theirs = (stored.transposed ? ours.t() : ours).contiguous();
      EXPECT_EQ(view->shape,
                std::vector<std::uint64_t>(theirs.sizes().begin(), theirs.sizes().end()));
      EXPECT_EQ(0, std::memcmp(view->bytes.data(), theirs.data_ptr(), view->bytes.size()));
    }
  }
}

TEST(Checkpoint, WithoutMoments) {
  const Folder folder;
  Snapshot whole = small_snapshot(1);
  whole.second.clear();
  fs::path path = write_whole(folder / "sgd", whole, 3);
  EXPECT_THAT(verify_checkpoint(path), IsEmpty());
  expect_same(read_checkpoint(path, names_of(small_naming()), small_naming()), whole);
  whole.first.clear();
  path = write_whole(folder / "plain", whole, 3);
  EXPECT_THAT(verify_checkpoint(path), IsEmpty());
  expect_same(read_checkpoint(path, names_of(small_naming()), small_naming()), whole);
}

TEST(Checkpoint, OfTheSameStepIsReplaced) {
  const Folder folder;
  write_whole(folder / "c", small_snapshot(1), 4);
  Snapshot other = small_snapshot(2);
  other.step = 1;
  const fs::path path = write_whole(folder / "c", other, 2);
  EXPECT_THAT(verify_checkpoint(path), IsEmpty());
  expect_same(read_checkpoint(path, names_of(small_naming()), small_naming()), other);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "c"), {}), 1);
}

TEST(Checkpoint, FilesAreAsDocumented) {
  const Folder folder;
  const fs::path path = write_whole(folder / "c", small_snapshot(1200), 3);
  EXPECT_EQ(path.filename(), "step-00001200");
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(path))
    files.push_back(entry.path().filename().string());
  std::ranges::sort(files);
  EXPECT_THAT(files,
              ElementsAre("checksums.json", "config.json", "config.toml",
                          "first-00001-of-00003.safetensors", "first-00002-of-00003.safetensors",
                          "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model.safetensors.index.json", "second-00001-of-00003.safetensors",
                          "second-00002-of-00003.safetensors", "state.json"));
}

TEST(ReadWeights, OfOthersInEveryFloatTypeAndWithoutAPrefix) {
  const Folder folder;
  Naming naming;
  naming.stored = {{"w", {"t.w", true, {2, 1}}}};
  naming.optional_prefix = "t.";
  naming.ignored = {"t.mask"};
  const fs::path file = folder / "model.safetensors";
  const auto read = [&] { return read_weights(folder / ".", {"w"}, naming).at("w"); };
  const torch::Tensor expected = torch::tensor({{1.5F}, {-2.0F}});
  write_single(file, {"w", Dtype::BF16, {1, 2}}, std::string("\xc0\x3f\x00\xc0", 4));
  EXPECT_TRUE(torch::equal(read(), expected));
  write_single(file, {"t.w", Dtype::F16, {1, 2}}, std::string("\x00\x3e\x00\xc0", 4));
  EXPECT_TRUE(torch::equal(read(), expected));
  write_single(file, {"w", Dtype::F32, {1, 2}}, std::string("\0\0\xc0\x3f\0\0\0\xc0", 8));
  EXPECT_TRUE(torch::equal(read(), expected));

  write_single(file, {"w", Dtype::I16, {1, 2}}, std::string(4, '\0'));
  EXPECT_THAT(error_of<Error>(read), HasSubstr("model.safetensors: w is of type I16"));
  write_single(file, {"w", Dtype::F16, {2, 1}}, std::string(4, '\0'));
  EXPECT_THAT(error_of<Error>(read), HasSubstr("w has the shape [2, 1], and the model of the "
                                               "configuration [1, 2]"));
  write_single(file, {"v", Dtype::F16, {1, 2}}, std::string(4, '\0'));
  EXPECT_THAT(error_of<Error>(read), HasSubstr("lacks t.w"));
  EXPECT_THAT(error_of<Error>([&] { read_weights(folder / "none", {"w"}, naming); }),
              HasSubstr("none is no folder"));

  const std::string zeros(8, '\0');
  SafetensorsWriter more(file, {{"w", Dtype::F32, {1, 2}}, {"extra\n", Dtype::U8, {0}}});
  more.append(std::as_bytes(std::span(zeros)));
  more.append({});
  more.finish();
  EXPECT_THAT(error_of<Error>(read), HasSubstr("holds \"extra\\n\", which the model of the"));
  SafetensorsWriter mask(file, {{"w", Dtype::F32, {1, 2}}, {"mask", Dtype::U8, {0}}});
  mask.append(std::as_bytes(std::span(zeros)));
  mask.append({});
  mask.finish();
  EXPECT_TRUE(torch::equal(read(), torch::zeros({2, 1})));
}

TEST(ReadWeights, ACopyMustBeOne) {
  const Folder folder;
  Naming naming;
  naming.stored = {{"w", {"t.w", false, {1}}}};
  naming.copies = {{"head", "w"}};
  for (const bool same : {true, false}) {
    SafetensorsWriter writer(folder / "model.safetensors",
                             {{"t.w", Dtype::F32, {1}}, {"head", Dtype::F32, {1}}});
    const std::vector<float> values = {1, same ? 1.0F : 2.0F};
    for (const float& value : values) writer.append(std::as_bytes(std::span(&value, 1)));
    writer.finish();
    const std::string error = error_of<Error>([&] { read_weights(folder / ".", {"w"}, naming); });
    if (same) {
      EXPECT_EQ(error, "");
    } else {
      EXPECT_THAT(error, HasSubstr("head and t.w differ"));
    }
  }
}

TEST(ReadCheckpoint, OfAnotherModelIsRefused) {
  const Folder folder;
  const fs::path path = write_whole(folder / "c", small_snapshot(1), 2);
  const auto error = [&](const Naming& naming) {
    return error_of<Error>([&] { read_checkpoint(path, names_of(naming), naming); });
  };
  Naming naming = small_naming();
  naming.stored["more"] = {"h.1.more", false, {1}};
  EXPECT_THAT(error(naming), HasSubstr("lacks h.1.more; it is of another model"));
  naming = small_naming();
  naming.stored.erase("down");
  EXPECT_THAT(error(naming), HasSubstr("holds \"h.0.down.weight\""));
  naming = small_naming();
  naming.stored["up"].shape = {3, 4};
  EXPECT_THAT(error(naming), HasSubstr("h.0.up.weight has the shape [3, 4]"));
  for (int i = 0; i < 100; ++i) naming.stored[std::to_string(i)].name = std::to_string(i);
  EXPECT_THAT(error(naming), HasSubstr("(100 in all)"));
}

TEST(Diff, NamesWhatDiffers) {
  const Folder folder;
  const Snapshot whole = small_snapshot(1);
  const fs::path a = write_whole(folder / "a", whole, 2);
  const fs::path b = write_whole(folder / "b", whole, 3);
  for (const TensorDiff& diff : diff_tensors(a, b)) EXPECT_TRUE(diff.is_equal) << diff.name;
  EXPECT_EQ(diff_tensors(a, b).size(), 15);
  EXPECT_THAT(diff_states(a, b), IsEmpty());
  Snapshot other = small_snapshot(1);
  other.weights["up"][0][0] += 0.5;
  other.first["scale"].fill_(std::numeric_limits<float>::quiet_NaN());
  other.numbers["loss_scale"] = 32768;
  const fs::path c = write_whole(folder / "c", other, 3);
  std::vector<std::string> differ;
  for (const TensorDiff& diff : diff_tensors(a, c))
    if (!diff.is_equal) differ.push_back(diff.part + " " + diff.name + " " + diff.how);
  EXPECT_THAT(differ, ElementsAre("model h.0.up.weight values", "first scale values"));
  EXPECT_NEAR(diff_tensors(a, c)[2].largest, 0.5, 1e-6);
  const std::vector<NumberDiff> numbers = diff_states(a, c);
  ASSERT_EQ(numbers.size(), 1);
  EXPECT_EQ(numbers[0].name + numbers[0].a + numbers[0].b, "loss_scale6553632768");
}

}  // namespace
}  // namespace headrace
