#include "headrace/timeline/chrome.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/schedule/action.h"
#include "headrace/timeline/messages.h"
#include "headrace/timeline/timeline.h"

namespace headrace {
namespace {

using nlohmann::ordered_json;

std::string_view category(Kind kind) {
  if (is_compute(kind)) return "compute";
  if (is_send(kind) || is_recv(kind)) return "transfer";
  if (kind == Kind::ReduceGradients) return "reduction";
  return "update";
}

class Trace {
 public:
  explicit Trace(const Timeline& timeline)
      : timeline_(timeline), microseconds_(timeline.measured ? 1e6 : 1e3) {}

  std::string text() {
    for (std::size_t rank = 0; rank < timeline_.ranks.size(); ++rank) {
      add({{"name", "process_name"},
           {"ph", "M"},
           {"pid", rank},
           {"args", {{"name", cat("rank ", rank)}}}});
      add({{"name", "process_sort_index"},
           {"ph", "M"},
           {"pid", rank},
           {"args", {{"sort_index", rank}}}});
      for (const Event& event : timeline_.ranks[rank]) add_event(rank, event);
    }
    std::size_t number = 0;
    for (const MessageArrow& arrow : messages(timeline_)) {
      ++number;
      const Event& from = timeline_.ranks[arrow.from.rank][arrow.from.index];
      const Event& to = timeline_.ranks[arrow.to.rank][arrow.to.index];
      // Inside its slice, or it would be drawn from the next one.
      add_flow("s", number, arrow.from.rank, 0.5 * (work_begin(from) + from.end), from);
      add_flow("f", number, arrow.to.rank, work_begin(to), from);
    }
    ordered_json about = {{"name", timeline_.name}};
    if (timeline_.measured)
      about["clock_error_microseconds"] = timeline_.clock_error * microseconds_;
    return cat("{\"displayTimeUnit\":\"ms\",\"otherData\":", about.dump(), ",\"traceEvents\":[\n",
               events_, "\n]}\n");
  }

 private:
  void add(const ordered_json& event) {
    if (!events_.empty()) events_ += ",\n";
    events_ += event.dump();
  }

  void add_slice(
      std::size_t rank, std::string_view name, std::string_view kind, double from, double to) {
    if (to <= from) return;
    add({{"name", name},
         {"cat", kind},
         {"ph", "X"},
         {"pid", rank},
         {"tid", 0},
         {"ts", from * microseconds_},
         {"dur", (to - from) * microseconds_}});
  }

  void add_event(std::size_t rank, const Event& event) {
    const std::string name = to_string(event.action);
    const double waited = event.start + event.wait;
    const double begin = work_begin(event);
    add_slice(rank, "wait for " + name, "wait", event.start, waited);
    add_slice(rank, "transfer for " + name, "transfer", waited, begin);
    add_slice(rank, name, category(event.action.kind), begin, event.end);
  }

  void add_flow(
      std::string_view phase, std::size_t number, std::size_t rank, double at, const Event& from) {
    ordered_json event = {{"name", to_string(from.action)},
                          {"cat", "message"},
                          {"ph", phase},
                          {"id", number},
                          {"pid", rank},
                          {"tid", 0},
                          {"ts", at * microseconds_}};
    if (phase == "f") event["bp"] = "e";
    add(event);
  }

  const Timeline& timeline_;
  double microseconds_;
  std::string events_;
};

}  // namespace

std::string chrome_trace(const Timeline& timeline) {
  return Trace(timeline).text();
}

void write_chrome_trace(const Timeline& timeline, const std::string& path) {
  write_file(path, chrome_trace(timeline));
}

}  // namespace headrace
