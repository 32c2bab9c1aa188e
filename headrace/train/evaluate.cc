#include "headrace/train/evaluate.h"

#include <cmath>
#include <cstddef>
#include <string>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/data/microbatches.h"
#include "headrace/model/metrics.h"

namespace headrace {

EvaluationRecord evaluate(Pipeline& pipeline,
                          const Batch& batch,
                          std::int64_t rows,
                          std::int64_t step,
                          const std::function<void(const Action&)>& before_action) {
  const Microbatches cut(batch, rows, pipeline.device());
  const Evaluation sums = pipeline.evaluate({.step = step,
                                             .microbatches = cut.count(),
                                             .inputs = [&](int m) { return cut.inputs(m); },
                                             .targets = [&](int m) { return cut.targets(m); },
                                             .before_action = before_action});
  const auto tokens = static_cast<double>(cut.valid());
  EvaluationRecord record{.step = step, .loss = sums.loss / tokens};
  record.perplexity = std::exp(record.loss);
  for (std::size_t i = 0; i < metrics().size(); ++i)
    record.shares[metrics()[i].name] = sums.counts[i] / tokens;
  return record;
}

std::string to_text(const EvaluationRecord& record) {
  std::string text =
      cat("loss ", fixed_text(record.loss, 4), ", perplexity ", fixed_text(record.perplexity, 3));
  for (const Metric& metric : metrics())
    text += cat(", ", metric.title, " ", fixed_text(100 * record.shares.at(metric.name), 2), "%");
  return text;
}

}  // namespace headrace
