// What an evaluation counts besides the loss. Whoever adds one adds a row in metrics.cc: the head of a
// model computes it, the pipeline adds it up over microbatches, the run's records and console name it.
#pragma once

#include <string>
#include <vector>

#include <torch/types.h>

namespace headrace {

// A share of the tokens that there is something to predict for.
struct Metric {
  std::string name;   // in records: "accuracy"
  std::string title;  // for people: "next-token accuracy"
  // logits: [tokens, vocabulary], labels: [tokens] int64, -100 where there is nothing to predict →
  // how many tokens count (0-dim, int64).
  torch::Tensor (*count)(const torch::Tensor& logits, const torch::Tensor& labels);
};

const std::vector<Metric>& metrics();

}  // namespace headrace
