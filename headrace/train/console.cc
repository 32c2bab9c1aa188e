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

void Console::step(const StepRecord& record) {
  finish();
  const int width = static_cast<int>(std::to_string(record.steps).size());
  const double rate = record.seconds > 0 ? static_cast<double>(record.tokens) / record.seconds : 0;
  const std::string norm = std::isnan(record.norm) ? "" : "  norm " + fixed_text(record.norm, 4);
  std::array<char, 200> text{};
  std::snprintf(text.data(), text.size(),
                "step %*lld/%lld  loss %.5f%s  lr %.2e  %s tokens/s  %.3f s", width,
                static_cast<long long>(record.step), static_cast<long long>(record.steps),
                record.loss, norm.c_str(), record.rate,
                count_text(static_cast<std::int64_t>(rate)).c_str(), record.seconds);
  out_ << text.data() << '\n';
  if (terminal_ && record.step < record.steps) draw_bar(record);
  flush();
}

void Console::draw_bar(const StepRecord& record) {
  constexpr std::size_t kWidth = 30;
  seconds_a_step_ =
      seconds_a_step_ == 0 ? record.seconds : 0.95 * seconds_a_step_ + 0.05 * record.seconds;
  const double done = static_cast<double>(record.step) / static_cast<double>(record.steps);
  const auto filled = std::min(kWidth, static_cast<std::size_t>(done * kWidth));
  const double left = seconds_a_step_ * static_cast<double>(record.steps - record.step);
  out_ << '[' << std::string(filled, '#') << std::string(kWidth - filled, '.') << "] "
       << fixed_text(100 * done, 0) << "%  " << seconds_text(left) << " left";
  bar_shown_ = true;
}

}  // namespace headrace
