// Whether a step's loss stands out above those before it: a spike, which a run notes and does nothing
// about. The state is three numbers, for a run that goes on elsewhere to say the same.
#pragma once

#include <cstdint>

namespace headrace {

class LossTrend {
 public:
  // True where the loss is higher than the mean by more than kDeviations times what losses have lately
  // been off it. `loss` is finite.
  bool is_spike(double loss) const;
  void add(double loss);

  double mean() const { return mean_; }
  double deviation() const { return deviation_; }  // mean of the absolute ones
  std::int64_t seen() const { return seen_; }
  // Goes on from such a state.
  void set(double mean, double deviation, std::int64_t seen);

 private:
  // Means over about so many of the last losses, few enough not to lag behind a falling loss, and no
  // judgement before as many.
  static constexpr std::int64_t kWindow = 20;
  // Of a normal distribution with these one loss in 10⁸ would be as high: the mean absolute deviation is
  // 0.8 of the standard one.
  static constexpr double kDeviations = 7;

  double mean_ = 0, deviation_ = 0;
  std::int64_t seen_ = 0;
};

}  // namespace headrace
