#include "headrace/model/layer.h"

#include <vector>

#include "headrace/base/keyed.h"

namespace headrace {

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

std::vector<LayerInfo> layers_of(const std::vector<LayerSpec>& model) {
  return {model.begin(), model.end()};
}

}  // namespace headrace
