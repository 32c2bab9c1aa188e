#include "headrace/timeline/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/schedule/action.h"
#include "headrace/timeline/timeline.h"

namespace headrace {
namespace {

constexpr double kLane = 22;    // height of a rank's lane
constexpr double kGap = 4;      // between lanes
constexpr double kLeft = 60;    // for the ranks' names
constexpr double kTop = 28;     // for the title
constexpr double kNarrow = 18;  // width the shortest box gets, where the whole stays printable
constexpr double kWidest = 2400;

struct Look {
  Kind kind;
  std::string_view name;
  int hue;  // apart also for the colour-blind, with the lightness below
  int saturation;
  int lightness;
};

constexpr std::array<Look, 6> kLooks = {{{Kind::Forward, "forward", 215, 75, 72},
                                         {Kind::Backward, "backward", 145, 45, 58},
                                         {Kind::BackwardInput, "input gradient", 175, 50, 62},
                                         {Kind::BackwardWeight, "weight gradient", 38, 90, 68},
                                         {Kind::ReduceGradients, "reduction", 300, 25, 70},
                                         {Kind::Update, "update", 0, 0, 45}}};

const Look& look_of(Kind kind) {
  return *std::ranges::find(kLooks, kind, &Look::kind);
}

std::string fill(const Look& look, std::size_t chunk) {
  // Later stages of a rank are lighter; four shades are told apart.
  const int lighter = 6 * static_cast<int>(std::min<std::size_t>(chunk, 3));
  return cat("hsl(", look.hue, ",", look.saturation, "%,", std::min(look.lightness + lighter, 94),
             "%)");
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string px(double value) {
  std::string text = fixed_text(value, 2);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

std::string box(double x, double y, double width, double height, std::string_view colour) {
  return cat("<rect x=\"", px(x), "\" y=\"", px(y), "\" width=\"", px(width), "\" height=\"",
             px(height), "\" fill=\"", colour, "\"");
}

std::string words(double x, double y, std::string_view anchor, std::string_view text) {
  return cat("<text x=\"", px(x), "\" y=\"", px(y), "\" text-anchor=\"", anchor, "\">",
             escaped(text), "</text>\n");
}

class Picture {
 public:
  explicit Picture(const Timeline& timeline) : timeline_(timeline) {
    double shortest = std::numeric_limits<double>::infinity();
    for (const std::vector<Event>& events : timeline.ranks) {
      for (const Event& event : events) {
        if (!shown(event)) continue;
        start_ = std::min(start_, event.start);
        end_ = std::max(end_, event.end);
        shortest = std::min(shortest, event.end - work_begin(event));
      }
    }
    if (end_ > start_) scale_ = std::min(kNarrow / shortest, kWidest / (end_ - start_));
  }

  std::string text() {
    const double width = end_ > start_ ? (end_ - start_) * scale_ : 0;
    body_ += words(kLeft, 18, "start", timeline_.name);
    for (std::size_t rank = 0; rank < timeline_.ranks.size(); ++rank) {
      const double y = kTop + static_cast<double>(rank) * (kLane + kGap);
      body_ += words(kLeft - 8, y + 15, "end", cat("rank ", rank));
      body_ += box(kLeft, y, width, kLane, "url(#bubble)") + "/>\n";
      add_lane(timeline_.ranks[rank], y);
    }
    const double below = kTop + static_cast<double>(timeline_.ranks.size()) * (kLane + kGap);
    add_axis(below, width);
    const double legend_width = add_legend(below + 30);
    const double whole_width = std::max(kLeft + width, legend_width) + 16;
    return cat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", px(whole_width),
               "\" height=\"", px(below + 60), "\" viewBox=\"0 0 ", px(whole_width), " ",
               px(below + 60), "\" font-family=\"Helvetica,Arial,sans-serif\" font-size=\"11\">\n",
               "<defs><pattern id=\"bubble\" width=\"6\" height=\"6\" ",
               "patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">",
               "<rect width=\"6\" height=\"6\" fill=\"#f4f4f4\"/>",
               "<rect width=\"1.5\" height=\"6\" fill=\"#d8d8d8\"/></pattern></defs>\n",
               "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n", body_, "</svg>\n");
  }

 private:
  static bool shown(const Event& event) {
    return !is_send(event.action.kind) && !is_recv(event.action.kind) &&
           event.end > work_begin(event);
  }

  void add_lane(const std::vector<Event>& events, double y) {
    std::set<int> stages;
    for (const Event& event : events) stages.insert(event.action.stage);
    for (const Event& event : events) {
      if (!shown(event)) continue;
      const double x = kLeft + (work_begin(event) - start_) * scale_;
      const double width = (event.end - work_begin(event)) * scale_;
      const auto chunk =
          static_cast<std::size_t>(std::distance(stages.begin(), stages.find(event.action.stage)));
      const Look& look = look_of(event.action.kind);
      if (!has_microbatch(event.action.kind))
        seen_.insert({event.action.kind, 0});
      else
        seen_.insert({event.action.kind, std::min<std::size_t>(chunk, 3)});
      body_ += box(x, y, width, kLane, fill(look, chunk)) +
               " stroke=\"#333\" stroke-width=\"0.6\"><title>" + to_string(event.action) +
               "</title></rect>\n";
      const std::string number = has_microbatch(event.action.kind)
                                     ? std::to_string(event.action.microbatch)
                                     : std::string();
      if (6.5 * static_cast<double>(number.size()) + 2 <= width && !number.empty())
        body_ += words(x + width / 2, y + 15, "middle", number);
    }
  }

  void add_axis(double y, double width) {
    body_ += cat("<path d=\"M", px(kLeft), " ", px(y + 2), "h", px(width),
                 "\" stroke=\"#333\" stroke-width=\"0.8\"/>\n");
    body_ += words(kLeft, y + 15, "start", "0");
    const double span = end_ > start_ ? end_ - start_ : 0;
    body_ += words(kLeft + width, y + 15, "end",
                   timeline_.measured ? seconds_text(span) : cat("time ", span));
  }

  double add_legend(double y) {
    double x = kLeft;
    const auto entry = [&](std::string_view colour, std::string_view name) {
      body_ += box(x, y, 14, 14, colour) + " stroke=\"#333\" stroke-width=\"0.6\"/>\n";
      body_ += words(x + 19, y + 11, "start", name);
      x += 34 + 6.2 * static_cast<double>(name.size());
    };
    const bool several =
        std::ranges::any_of(seen_, [](const auto& seen) { return seen.second > 0; });
    for (const auto& [kind, chunk] : seen_) {
      const Look& look = look_of(kind);
      entry(fill(look, chunk), several && has_microbatch(kind)
                                   ? cat(look.name, ", stage ", chunk + 1, " of rank")
                                   : std::string(look.name));
    }
    entry("url(#bubble)", "bubble");
    return x;
  }

  const Timeline& timeline_;
  double start_ = std::numeric_limits<double>::infinity();
  double end_ = -std::numeric_limits<double>::infinity();
  double scale_ = 1;
  std::set<std::pair<Kind, std::size_t>> seen_;
  std::string body_;
};

}  // namespace

std::string svg(const Timeline& timeline) {
  return Picture(timeline).text();
}

}  // namespace headrace
