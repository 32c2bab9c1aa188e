#include "headrace/train/samples.h"

#include <cstdint>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/train/tiny_config.h"

namespace headrace {
namespace {

using ::testing::ElementsAre;

class SamplesOfARun : public testing::Test {
 protected:
  // 800 tokens for training make 99 samples of 8 tokens and a target.
  SamplesOfARun() : config_(tiny_config(folder_)) { write_tokens(folder_, 1000); }

  Samples resumed(std::int64_t step, std::int64_t sample) { return {config_, {step, sample}}; }

  Folder folder_;
  Config config_;
};

TEST_F(SamplesOfARun, GoOnWhereTheyWereWithAnotherBatch) {
  config_.train.steps = 20;
  const Samples before(config_, {});
  EXPECT_EQ(before.first_sample(7), 28);
  config_.train.batch = 10;
  const Samples after = resumed(7, 28);
  EXPECT_EQ(after.steps(), 20);
  EXPECT_EQ(after.first_sample(7), 28);
  EXPECT_EQ(after.first_sample(9), 48);
  EXPECT_TRUE(torch::equal(after.of_step(7).inputs.slice(0, 0, 4), before.of_step(7).inputs));
  EXPECT_TRUE(torch::equal(after.of_step(7).inputs.slice(0, 4, 8), before.of_step(8).inputs));
}

TEST_F(SamplesOfARun, OfEpochsKeepTheirEnds) {
  config_.train.steps = 0;
  config_.train.epochs = 3;
  config_.train.batch = 40;
  const Samples whole(config_, {});
  ASSERT_EQ(whole.training_samples(), 99);
  EXPECT_EQ(whole.steps(), 9);
  EXPECT_EQ(whole.fewest_rows(), 19);
  // In the midst of the second epoch, with a batch of another size: 59 samples are left of it.
  config_.train.batch = 25;
  const Samples rest = resumed(4, 99 + 40);
  EXPECT_EQ(rest.steps(), 4 + 3 + 4);
  std::vector<std::int64_t> firsts, rows;
  for (std::int64_t step = 4; step < rest.steps(); ++step) {
    firsts.push_back(rest.first_sample(step));
    rows.push_back(rest.rows(step));
  }
  EXPECT_THAT(firsts, ElementsAre(139, 164, 189, 198, 223, 248, 273));
  EXPECT_THAT(rows, ElementsAre(25, 25, 9, 25, 25, 25, 24));
  EXPECT_EQ(rest.fewest_rows(), 9);
  EXPECT_EQ(rest.first_sample(rest.steps()), 3 * 99);
}

TEST_F(SamplesOfARun, OfEpochsWithoutTheirLastBatch) {
  config_.train.steps = 0;
  config_.train.epochs = 2;
  config_.train.drop_last = true;
  config_.train.batch = 40;
  const Samples whole(config_, {});
  EXPECT_EQ(whole.steps(), 4);
  EXPECT_EQ(whole.first_sample(2), 99);
  // Nothing fits into what is left of the first epoch.
  const Samples rest = resumed(2, 80);
  EXPECT_EQ(rest.steps(), 4);
  EXPECT_EQ(rest.first_sample(2), 99);
  EXPECT_EQ(rest.fewest_rows(), 40);
}

TEST_F(SamplesOfARun, ThatHasDoneAllHaveNoStepLeft) {
  config_.train.steps = 0;
  config_.train.epochs = 2;
  EXPECT_EQ(resumed(50, 2 * 99).steps(), 50);
  EXPECT_EQ(resumed(50, 2 * 99 + 7).steps(), 50);
}

}  // namespace
}  // namespace headrace
