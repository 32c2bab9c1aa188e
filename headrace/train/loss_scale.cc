#include "headrace/train/loss_scale.h"

namespace headrace {
namespace {

constexpr int kGrowAfter = 2000;           // steps without an overflow
constexpr double kGreatest = 1ULL << 40U;  // no gradient that matters is smaller than this lifts
constexpr double kLeast = 1.0 / 1024;

}  // namespace

bool LossScale::can_fall() const {
  return changes_ && value_ > kLeast;
}

void LossScale::after_step(bool overflow) {
  if (!changes_) return;
  if (overflow) {
    value_ /= 2;
    good_ = 0;
  } else if (++good_ == kGrowAfter && value_ < kGreatest) {
    value_ *= 2;
    good_ = 0;
  }
}

}  // namespace headrace
