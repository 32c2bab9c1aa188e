#include "headrace/train/loss_scale.h"

#include "headrace/base/error.h"

namespace headrace {
namespace {

constexpr int kGrowAfter = 2000;           // steps without an overflow
constexpr double kGreatest = 1ULL << 40U;  // no gradient that matters is smaller than this lifts
constexpr double kLeast = 1.0 / 1024;

}  // namespace

void LossScale::after_step(bool overflow) {
  if (!changes_) return;
  if (overflow) {
    value_ /= 2;
    good_ = 0;
    check(value_ >= kLeast,
          "gradients are not finite in fp16 with any loss scale; train with "
          "train.precision = \"bf16\", or with a lower optimizer.learning_rate");
  } else if (++good_ == kGrowAfter && value_ < kGreatest) {
    value_ *= 2;
    good_ = 0;
  }
}

}  // namespace headrace
