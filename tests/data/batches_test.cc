#include "headrace/data/batches.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A file whose token number i is i, so that an id says where it came from.
class BatchesTest : public testing::Test {
 protected:
  std::shared_ptr<const TokenFile> counting(int tokens) const {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
    std::iota(ids.begin(), ids.end(), 0);
    write_token_file(folder_ / "count.tokens", ids, tokens);
    return std::make_shared<TokenFile>(folder_ / "count.tokens");
  }

  Folder folder_;
};

// The samples of a batch, by the first token of each row.
std::vector<std::int64_t> numbers(const Batch& batch, std::int64_t context) {
  std::vector<std::int64_t> samples;
  for (std::int64_t row = 0; row < batch.inputs.size(0); ++row)
    samples.push_back(batch.inputs[row][0].item<std::int64_t>() / context);
  return samples;
}

TEST_F(BatchesTest, TargetsAreTheNextTokens) {
  const Batches batches(counting(100), 20, 61, 8, 1);  // 41 tokens: five samples and one over
  EXPECT_EQ(batches.samples(), 5);
  const Batch batch = batches.in_order(0, 5);
  EXPECT_EQ(batch.inputs.sizes(), (std::vector<std::int64_t>{5, 8}));
  EXPECT_TRUE(torch::equal(batch.inputs.flatten(), torch::arange(20, 60)));
  EXPECT_TRUE(torch::equal(batch.targets.flatten(), torch::arange(21, 61)));
  EXPECT_EQ(Batches(counting(100), 20, 60, 8, 1).samples(), 4);
}

TEST_F(BatchesTest, NeverLeaveTheirRange) {
  const Batches batches(counting(100), 30, 63, 8, 5);
  const Batch batch = batches.samples_at(0, 200);
  EXPECT_GE(batch.inputs.min().item<std::int64_t>(), 30);
  EXPECT_LT(batch.targets.max().item<std::int64_t>(), 63);
}

// 10 samples in batches of 4 over 7 steps: two ends of an epoch are crossed within a batch.
TEST_F(BatchesTest, CrossTheEndOfAnEpoch) {
  const Batches batches(counting(41), 0, 41, 4, 3);
  ASSERT_EQ(batches.samples(), 10);
  std::vector<std::int64_t> seen;
  for (int step = 0; step < 7; ++step) {
    const auto part = numbers(batches.samples_at(step * 4, 4), 4);
    seen.insert(seen.end(), part.begin(), part.end());
  }
  ASSERT_EQ(seen.size(), 28u);
  const std::set<std::int64_t> first(seen.begin(), seen.begin() + 10);
  const std::set<std::int64_t> second(seen.begin() + 10, seen.begin() + 20);
  EXPECT_EQ(first.size(), 10u);
  EXPECT_EQ(second.size(), 10u);
  EXPECT_FALSE(std::equal(seen.begin(), seen.begin() + 10, seen.begin() + 10));
  EXPECT_EQ(numbers(batches.samples_at(0, 28), 4), seen);  // however it is cut
}

TEST_F(BatchesTest, AreTheSameForEveryCaller) {
  const auto file = counting(1000);
  const Batches one(file, 0, 900, 8, 11);
  const Batches other(std::make_shared<TokenFile>(folder_ / "count.tokens"), 0, 900, 8, 11);
  other.samples_at(5, 3);  // what was asked before does not matter
  const Batch a = one.samples_at(1000, 16);
  const Batch b = other.samples_at(1000, 16);
  EXPECT_TRUE(torch::equal(a.inputs, b.inputs));
  EXPECT_TRUE(torch::equal(a.targets, b.targets));
  const Batches seeded(file, 0, 900, 8, 12);
  EXPECT_FALSE(torch::equal(a.inputs, seeded.samples_at(1000, 16).inputs));
}

TEST_F(BatchesTest, TooFewTokensAreRefused) {
  EXPECT_EQ(Batches(counting(9), 0, 9, 8, 1).samples(), 1);
  EXPECT_THAT(error_of<Error>([&] { const Batches batches(counting(8), 0, 8, 8, 1); }),
              AllOf(HasSubstr("count.tokens"), HasSubstr("are 8"), HasSubstr("takes 9")));
}

TEST_F(BatchesTest, NoRowsAreABatchToo) {
  const Batches batches(counting(41), 0, 41, 4, 3);
  EXPECT_EQ(batches.samples_at(3, 0).inputs.sizes(), (std::vector<std::int64_t>{0, 4}));
}

}  // namespace
}  // namespace headrace
