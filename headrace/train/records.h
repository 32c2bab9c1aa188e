// What a run says of itself, as values: written as lines of JSON, shown on the console, read back.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>

namespace headrace {

struct StepRecord {
  std::int64_t step = 0;  // from 1
  std::int64_t steps = 0;
  double loss = 0;
  double norm = std::numeric_limits<double>::quiet_NaN();  // NaN: there is none
  double rate = 0;
  std::int64_t tokens = 0;
  double seconds = 0;
  bool skipped = false;  // nothing was updated: the loss or the norm was none, or fp16 overflowed
  bool spike = false;    // the loss stands out above those before it (loss_trend.h)
};

struct EvaluationRecord {
  std::int64_t step = 0;  // after which
  double loss = 0;        // mean over the valid tokens, in nats
  double perplexity = 0;
  std::map<std::string, double> shares;  // of the valid tokens, by the metric's name
};

// One line, without its end. Numbers have all their digits; what is not finite is null.
// {"step":12,"loss":2.4123456,"grad_norm":…,"lr":…,"tokens":…,"seconds":…}
// and, only where it is so, "skipped":true and "spike":true.
std::string to_json(const StepRecord& record);
// {"step":12,"validation_loss":…,"perplexity":…,"accuracy":…}
std::string to_json(const EvaluationRecord& record);

// The step of a record's line; none where it is not a whole one.
std::optional<std::int64_t> step_of_record(const std::string& line);

}  // namespace headrace
