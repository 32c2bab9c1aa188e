#include "headrace/train/loss_trend.h"

#include <algorithm>
#include <cmath>

namespace headrace {

bool LossTrend::is_spike(double loss) const {
  return seen_ >= kWindow && loss - mean_ > kDeviations * deviation_;
}

void LossTrend::add(double loss) {
  ++seen_;
  const double share = 1.0 / static_cast<double>(std::min(seen_, kWindow));
  deviation_ += share * (std::abs(loss - mean_) - deviation_);
  mean_ += share * (loss - mean_);
  // The first loss is no deviation from anything.
  if (seen_ == 1) deviation_ = 0;
}

void LossTrend::set(double mean, double deviation, std::int64_t seen) {
  mean_ = mean;
  deviation_ = deviation;
  seen_ = seen;
}

}  // namespace headrace
