// All that is wrong with what a user gave, told at once: faults are noted as they are found and
// thrown together.
//
//   Faults faults;
//   faults.check(width % heads == 0, "model.width is ", width, …);
//   faults.attempt([&] { read_schedule(file); });   // notes the UsageError that it throws
//   faults.require_none();
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {

class Faults {
 public:
  // Whether it is well.
  template <class... Parts>
  bool check(bool ok, const Parts&... parts) {
    if (!ok) texts_.push_back(cat(parts...));
    return ok;
  }
  template <class Action>
  bool attempt(Action&& action) {
    try {
      action();
      return true;
    } catch (const UsageError& error) {
      texts_.emplace_back(error.what());
      return false;
    }
  }

  bool none() const { return texts_.empty(); }
  // Throws UsageError: a single fault in its own words, several each on a line of its own.
  void require_none() const {
    if (none()) return;
    if (texts_.size() == 1) throw UsageError(texts_[0]);
    std::string all = cat(texts_.size(), " faults:");
    for (const std::string& text : texts_) all += "\n  " + text;
    throw UsageError(all);
  }

 private:
  std::vector<std::string> texts_;
};

}  // namespace headrace
