#include "headrace/model/layer.h"

#include <vector>

#include "headrace/base/keyed.h"

namespace headrace {

std::vector<Parameter> make_parameters(const std::vector<ParameterSpec>& specs,
                                       const BuildOptions& options) {
  const torch::NoGradGuard no_grad;
  std::vector<Parameter> parameters;
  for (const ParameterSpec& spec : specs) {
    torch::Tensor value = torch::full(spec.shape, spec.mean, torch::kFloat32);
    if (spec.deviation > 0) {
      // A generator of its own: the default one belongs to all threads of the process.
      auto generator = at::detail::createCPUGenerator(keyed(options.seed, spec.name));
      value.normal_(spec.mean, spec.deviation, generator);
    }
    parameters.push_back({spec, value.to(options.device).requires_grad_(true)});
  }
  return parameters;
}

std::vector<LayerInfo> layers_of(const std::vector<LayerSpec>& model) {
  return {model.begin(), model.end()};
}

}  // namespace headrace
