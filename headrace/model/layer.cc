#include "headrace/model/layer.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "headrace/base/keyed.h"

namespace headrace {

std::int64_t ParameterSpec::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

Tensors initial_weights(const std::vector<ParameterSpec>& parameters, const BuildOptions& options) {
  const torch::NoGradGuard no_grad;
  Tensors weights;
  for (const ParameterSpec& spec : parameters) {
    torch::Tensor value = torch::full(spec.shape, spec.mean, torch::kFloat32);
    if (spec.deviation > 0) {
      // A generator of its own: the default one belongs to all threads of the process.
      auto generator = at::detail::createCPUGenerator(keyed(options.seed, spec.name));
      value.normal_(spec.mean, spec.deviation, generator);
    }
    weights.push_back(value.to(options.device).requires_grad_(true));
  }
  return weights;
}

std::int64_t parameter_count(const std::vector<LayerSpec>& model) {
  std::int64_t count = 0;
  std::set<std::string> seen;
  for (const LayerSpec& layer : model)
    for (const ParameterSpec& spec : layer.parameters)
      if (seen.insert(spec.name).second) count += spec.elements();
  return count;
}

}  // namespace headrace
