// The loss and the metrics of a model over a set of sequences.
#pragma once

#include <cstdint>
#include <functional>

#include "headrace/data/batches.h"
#include "headrace/runtime/pipeline.h"
#include "headrace/train/records.h"

namespace headrace {

// After `step` steps, in microbatches of `rows` sequences. The loss may be none (NaN, infinite).
EvaluationRecord evaluate(Pipeline& pipeline,
                          const Batch& batch,
                          std::int64_t rows,
                          std::int64_t step,
                          const std::function<void(const Action&)>& before_action = {});

// "loss 1.6423, perplexity 5.167, next-token accuracy 51.20%"
std::string to_text(const EvaluationRecord& record);

}  // namespace headrace
