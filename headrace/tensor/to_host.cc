#include "headrace/tensor/to_host.h"

#include <algorithm>

namespace headrace {

std::vector<double> to_host(const Tensors& numbers) {
  if (numbers.empty()) return {};
  const bool are_alike = std::ranges::all_of(numbers, [&](const torch::Tensor& number) {
    return number.scalar_type() == numbers.front().scalar_type();
  });
  Tensors same = numbers;
  if (!are_alike)
    for (torch::Tensor& number : same) number = number.to(torch::kFloat64);
  const torch::Tensor all = torch::stack(same).to(torch::kFloat64).cpu();
  const double* const first = all.data_ptr<double>();
  return {first, first + all.numel()};
}

}  // namespace headrace
