#include "headrace/tensor/to_host.h"

#include <cstddef>
#include <cstdint>

namespace headrace {

std::vector<std::vector<double>> to_host(const std::vector<Tensors>& lists) {
  std::vector<std::vector<double>> numbers(lists.size());
  Tensors parts;
  for (const Tensors& list : lists)
    if (!list.empty()) parts.push_back(torch::stack(list).reshape(-1).to(torch::kFloat64));
  if (parts.empty()) return numbers;
  const torch::Tensor all = torch::cat(parts).cpu();
  const double* next = all.const_data_ptr<double>();
  std::size_t part = 0;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (lists[i].empty()) continue;
    const std::int64_t count = parts[part++].numel();
    numbers[i].assign(next, next + count);
    next += count;
  }
  return numbers;
}

}  // namespace headrace
