// The dynamic loss scale of fp16 training: gradients that would be too small for the type are
// computed times a power of two, which is taken out before they are used.
//
// Every rank keeps one of its own: it changes by the norm of all gradients alone, which is the same
// on every rank, so that all agree without a word.
#pragma once

#include "headrace/train/config/config.h"

namespace headrace {

class LossScale {
 public:
  explicit LossScale(const TrainConfig& config)
      : changes_(config.precision == "fp16"), value_(changes_ ? config.loss_scale : 1) {}

  double value() const { return value_; }
  // Whether an overflow is to be expected: a step without an update, and nothing amiss.
  bool changes() const { return changes_; }
  // Steps since it last changed.
  int good() const { return good_; }
  // Goes on from such a state.
  void set(double value, int good) {
    value_ = changes_ ? value : 1;
    good_ = good;
  }
  // Whether it can get smaller still; where not, gradients are not finite by themselves.
  bool can_fall() const;
  void after_step(bool overflow);

 private:
  bool changes_;
  double value_;
  int good_ = 0;  // steps since it last changed
};

}  // namespace headrace
