#include "headrace/train/console.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <ostream>
#include <string>

#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {

void Console::finish() {
  if (bar_shown_) out_ << "\r\x1b[K" << std::flush;
  bar_shown_ = false;
}

void Console::flush() {
  out_ << std::flush;
  check(out_.good(), "cannot write to standard output; send it to a file if nobody is to read it");
}

void Console::line(const std::string& text) {
  finish();
  out_ << text << '\n';
  flush();
}

void Console::step(const StepLine& line) {
  finish();
  const int width = static_cast<int>(std::to_string(line.steps).size());
  const double rate = line.seconds > 0 ? static_cast<double>(line.tokens) / line.seconds : 0;
  const std::string norm = std::isnan(line.norm) ? "" : "  norm " + fixed_text(line.norm, 4);
  std::array<char, 200> text{};
  std::snprintf(
      text.data(), text.size(), "step %*lld/%lld  loss %.5f%s  lr %.2e  %s tokens/s  %.3f s", width,
      static_cast<long long>(line.step), static_cast<long long>(line.steps), line.loss,
      norm.c_str(), line.rate, count_text(static_cast<std::int64_t>(rate)).c_str(), line.seconds);
  out_ << text.data() << '\n';
  if (terminal_ && line.step < line.steps) draw_bar(line);
  flush();
}

void Console::draw_bar(const StepLine& line) {
  constexpr std::size_t kWidth = 30;
  seconds_a_step_ =
      seconds_a_step_ == 0 ? line.seconds : 0.95 * seconds_a_step_ + 0.05 * line.seconds;
  const double done = static_cast<double>(line.step) / static_cast<double>(line.steps);
  const auto filled = std::min(kWidth, static_cast<std::size_t>(done * kWidth));
  const double left = seconds_a_step_ * static_cast<double>(line.steps - line.step);
  out_ << '[' << std::string(filled, '#') << std::string(kWidth - filled, '.') << "] "
       << fixed_text(100 * done, 0) << "%  " << seconds_text(left) << " left";
  bar_shown_ = true;
}

}  // namespace headrace
