#include "headrace/train/loss_scale.h"

#include <gtest/gtest.h>

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

TEST(LossScaleOf, FallsToAnEndWhereNoScaleHelps) {
  LossScale scale(fp16(4));
  int overflows = 0;
  while (scale.can_fall() && overflows < 20) {
    scale.after_step(true);
    ++overflows;
  }
  EXPECT_EQ(overflows, 12);
  EXPECT_EQ(scale.value(), 1.0 / 1024);
}

TEST(LossScaleOf, OtherTypesHaveNone) {
  TrainConfig config = fp16(1024);
  config.precision = "bf16";
  LossScale scale(config);
  scale.after_step(true);
  EXPECT_EQ(scale.value(), 1);
  EXPECT_FALSE(scale.can_fall());
}

}  // namespace
}  // namespace headrace
