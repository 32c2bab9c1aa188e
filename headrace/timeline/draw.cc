#include "headrace/timeline/draw.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/schedule/action.h"
#include "headrace/timeline/timeline.h"

namespace headrace {
namespace {

bool shown(const Event& event) {
  return !is_send(event.action.kind) && !is_recv(event.action.kind) && event.end > event.start;
}

bool has_several_stages(const Timeline& timeline) {
  for (const std::vector<Event>& events : timeline.ranks) {
    for (const Event& event : events) {
      if (event.action.stage != events.front().action.stage) return true;
    }
  }
  return false;
}

std::string label(const Action& action, bool with_stage) {
  if (action.kind == Kind::ReduceGradients) return "R";
  const std::string text = to_string(action);
  return with_stage ? text : text.substr(text.find_first_not_of("0123456789"));
}

std::string_view colour_of(Kind kind) {
  switch (kind) {
    case Kind::Forward:
      return "\033[30;44m";
    case Kind::Backward:
      return "\033[30;42m";
    case Kind::BackwardInput:
      return "\033[30;46m";
    case Kind::BackwardWeight:
      return "\033[30;43m";
    default:
      return "\033[30;45m";
  }
}

// Columns for a unit of time. The shortest action gets room for its label and a gap, unless that
// would stretch the longest beyond reading.
double scale_of(const Timeline& timeline, bool with_stage) {
  double shortest = std::numeric_limits<double>::infinity();
  double longest = 0;
  std::size_t room = 0;
  for (const std::vector<Event>& events : timeline.ranks) {
    for (const Event& event : events) {
      if (!shown(event)) continue;
      const double work = event.end - work_begin(event);
      if (work > 0) shortest = std::min(shortest, work);
      longest = std::max(longest, work);
      room = std::max(room, label(event.action, with_stage).size() + 1);
    }
  }
  return longest > 0 ? static_cast<double>(room) / std::max(shortest, longest / 8) : 1;
}

class Lane {
 public:
  Lane(double start, double scale, std::size_t width, bool colour)
      : start_(start),
        scale_(scale),
        width_(width),
        colour_(colour),
        cells_(width, '.'),
        kinds_(width, -1) {}

  void add(const Event& event, bool with_stage) {
    const std::size_t transfer = column(event.start + event.wait);
    const std::size_t begin = column(work_begin(event));
    const std::size_t end = column(event.end);
    for (std::size_t i = transfer; i < std::min(begin, width_); ++i) cells_[i] = '~';
    std::string text = label(event.action, with_stage);
    // Half a number would be another number.
    if (begin + text.size() > std::min(end, width_))
      text = kind_text(event.action.kind).substr(0, 1);
    for (std::size_t i = begin; i < std::min(end, width_); ++i) {
      const std::size_t offset = i - begin;
      cells_[i] = offset < text.size() ? text[offset] : '-';
      kinds_[i] = static_cast<int>(event.action.kind);
    }
    // The gap that keeps a number apart from its neighbour's stage or kind.
    if (end > begin + text.size() && end <= width_) cells_[end - 1] = ' ';
  }

  std::string text(std::size_t columns) const {
    std::string out;
    int kind = -1;
    for (std::size_t i = 0; i < std::min(columns, width_); ++i) {
      if (colour_ && kinds_[i] != kind) {
        if (kind >= 0) out += "\033[0m";
        kind = kinds_[i];
        if (kind >= 0) out += colour_of(static_cast<Kind>(kind));
      }
      out += cells_[i];
    }
    return kind >= 0 && colour_ ? out + "\033[0m" : out;
  }

 private:
  std::size_t column(double time) const {
    const double at = std::round((time - start_) * scale_);
    return at >= static_cast<double>(width_) ? width_ : static_cast<std::size_t>(std::max(at, 0.0));
  }

  double start_;
  double scale_;
  std::size_t width_;
  bool colour_;
  std::string cells_;
  std::vector<int> kinds_;
};

}  // namespace

std::string draw(const Timeline& timeline, const DrawOptions& options) {
  const bool with_stage = has_several_stages(timeline);
  const double scale = scale_of(timeline, with_stage);
  double start = std::numeric_limits<double>::infinity();
  double end = -start;
  for (const std::vector<Event>& events : timeline.ranks) {
    for (const Event& event : events) {
      start = std::min(start, event.start);
      end = std::max(end, event.end);
    }
  }
  if (end <= start) return "nothing to draw\n";
  const std::size_t margin = cat("rank ", timeline.ranks.size() - 1, " |").size();
  const auto all = static_cast<double>(std::max(options.width, 20)) - static_cast<double>(margin);
  const double whole = std::ceil((end - start) * scale - 1e-9);
  const auto width = static_cast<std::size_t>(std::max(1.0, std::min(all, whole)));
  const auto lanes = std::min(timeline.ranks.size(), static_cast<std::size_t>(options.lanes));
  std::string text;
  for (std::size_t rank = 0; rank < lanes; ++rank) {
    Lane lane(start, scale, width, options.colour);
    for (const Event& event : timeline.ranks[rank]) {
      if (shown(event)) lane.add(event, with_stage);
    }
    std::string name = cat("rank ", rank);
    name.resize(margin - 1, ' ');
    text += name + "|" + lane.text(width) + "\n";
  }
  if (lanes < timeline.ranks.size())
    text += cat("(", timeline.ranks.size() - lanes, " more ranks are not shown)\n");
  if (whole > all)
    text += cat("(cut: the first ", std::lround(100 * all / whole), "% of the time; --width ",
                static_cast<long>(whole) + static_cast<long>(margin), " shows all)\n");
  return text;
}

}  // namespace headrace
