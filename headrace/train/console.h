// What the user sees of a run, on one rank's console: lines that stay, and on a terminal a progress
// bar under them. Without a terminal there is no control character. Throws an Error once nobody
// reads them.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

namespace headrace {

struct StepLine {
  std::int64_t step = 0;  // from 1
  std::int64_t steps = 0;
  double loss = 0;
  double norm = 0;  // NaN: there is none
  double rate = 0;
  std::int64_t tokens = 0;
  double seconds = 0;
};

class Console {
 public:
  // `terminal`: draw the bar.
  Console(std::ostream& out, bool terminal) : out_(out), terminal_(terminal) {}

  void line(const std::string& text);
  void step(const StepLine& line);
  // Removes the bar.
  void finish();

 private:
  void flush();
  void draw_bar(const StepLine& line);

  std::ostream& out_;
  bool terminal_;
  bool bar_shown_ = false;
  double seconds_a_step_ = 0;  // a running mean, for the time left
};

}  // namespace headrace
