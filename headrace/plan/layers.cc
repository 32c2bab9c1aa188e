#include "headrace/plan/layers.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace headrace {

std::int64_t parameter_count(const std::vector<LayerInfo>& layers) {
  std::int64_t count = 0;
  std::set<std::string> seen;
  for (const LayerInfo& layer : layers)
    for (const ParameterSpec& spec : layer.parameters)
      if (seen.insert(spec.name).second) count += spec.elements();
  return count;
}

}  // namespace headrace
