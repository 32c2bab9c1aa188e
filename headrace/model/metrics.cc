#include "headrace/model/metrics.h"

namespace headrace {

const std::vector<Metric>& metrics() {
  static const std::vector<Metric> table = {
      {"accuracy", "next-token accuracy",
       [](const torch::Tensor& logits, const torch::Tensor& labels) {
         return logits.argmax(1).eq(labels).sum();
       }},
  };
  return table;
}

}  // namespace headrace
