#include "headrace/train/loss_scale.h"

#include <gtest/gtest.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

TrainConfig fp16(double start) {
  TrainConfig config;
  config.precision = "fp16";
  config.loss_scale = start;
  return config;
}

TEST(LossScaleOf, IsHalvedByAnOverflowAndDoubledBy2000GoodSteps) {
  LossScale scale(fp16(1024));
  for (int i = 0; i < 1999; ++i) scale.after_step(false);
  EXPECT_EQ(scale.value(), 1024);
  scale.after_step(true);
  EXPECT_EQ(scale.value(), 512);
  for (int i = 0; i < 1999; ++i) scale.after_step(false);
  EXPECT_EQ(scale.value(), 512);
  scale.after_step(false);
  EXPECT_EQ(scale.value(), 1024);
}

TEST(LossScaleOf, GivesUpWhereNoScaleHelps) {
  LossScale scale(fp16(4));
  EXPECT_THROW(
      {
        for (int i = 0; i < 20; ++i) scale.after_step(true);
      },
      Error);
}

TEST(LossScaleOf, OtherTypesHaveNone) {
  TrainConfig config = fp16(1024);
  config.precision = "bf16";
  LossScale scale(config);
  scale.after_step(true);
  EXPECT_EQ(scale.value(), 1);
}

}  // namespace
}  // namespace headrace
