// What the user sees of a run, on one rank's console: lines that stay, and on a terminal a progress
// bar under them. Without a terminal there is no control character. Throws an Error once nobody
// reads them.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

#include "headrace/train/records.h"

namespace headrace {

class Console {
 public:
  // `terminal`: draw the bar.
  Console(std::ostream& out, bool terminal) : out_(out), terminal_(terminal) {}

  void line(const std::string& text);
  void step(const StepRecord& record);
  // Removes the bar.
  void finish();

 private:
  void flush();
  void draw_bar(const StepRecord& record);

  std::ostream& out_;
  bool terminal_;
  bool bar_shown_ = false;
  double seconds_a_step_ = 0;  // a running mean, for the time left
};

}  // namespace headrace
