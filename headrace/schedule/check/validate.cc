#include "headrace/schedule/check/validate.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/check/checks.h"
#include "headrace/schedule/depend.h"
#include "headrace/schedule/schedule.h"

namespace headrace {

void measure_peaks(Checks& checks, Validation& validation) {
  for (std::size_t list = 0; list < checks.schedule.ranks.size(); ++list) {
    const int rank = static_cast<int>(list);
    const std::vector<Action>& actions = checks.schedule.ranks[list];
    int held = 0;
    int receives = 0;
    int most_held = 0;
    int most_receives = 0;
    for (std::size_t i = 0; i < actions.size(); ++i) {
      if (!checks.stands(rank, static_cast<int>(i))) continue;
      const Action& a = actions[i];
      if (a.kind == Kind::Forward) ++held;
      if (a.kind == Kind::Backward || a.kind == Kind::BackwardWeight) --held;
      most_held = std::max(most_held, held);
      if (!checks.has_backward) held = 0;  // nothing is kept for a backward
      if (is_recv(a.kind)) ++receives;
      most_receives = std::max(most_receives, receives);
      checks.depend.each(a, [&](Kind kind, int stage, int microbatch) {
        if (is_recv(kind) && checks.position_of(kind, stage, microbatch) >= 0) --receives;
      });
    }
    validation.peak_activations.push_back(most_held);
    validation.peak_receives.push_back(most_receives);
  }
}

namespace {

Validation checked(const Schedule& schedule) {
  Validation validation;
  if (!check_shape(schedule, validation.violations)) return validation;
  Checks checks(schedule);
  check_places(checks);
  check_complete(checks);
  check_order(checks);
  check_stage_order(checks);
  check_channels(checks);
  check_waits(checks);
  measure_peaks(checks, validation);
  validation.violations = std::move(checks.violations);
  return validation;
}

}  // namespace

Validation validate(const Schedule& schedule) {
  return naming_memory(cat("checking ", schedule.name), [&] { return checked(schedule); });
}

std::string to_string(const Violation& violation) {
  std::string text;
  if (violation.rank >= 0) text += cat("rank ", violation.rank, ", ");
  if (violation.position >= 0) text += cat("position ", violation.position, ", ");
  if (!violation.action.empty()) text += violation.action;
  if (!text.empty()) text += ": ";
  return text + violation.what;
}

void require_valid(const Schedule& schedule) {
  constexpr std::size_t kShown = 10;
  const std::vector<Violation> violations = validate(schedule).violations;
  if (violations.empty()) return;
  std::string text = cat("schedule ", schedule.name, " is not sound:");
  for (std::size_t i = 0; i < std::min(violations.size(), kShown); ++i)
    text += "\n  " + to_string(violations[i]);
  if (violations.size() > kShown) text += cat("\n  and ", violations.size() - kShown, " more");
  throw Error(text);
}

}  // namespace headrace
