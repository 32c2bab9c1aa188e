// Numbers that a device has computed, on the host in one copy: each copy waits for all that the device is to do
// before.
//
//   const auto numbers = to_host({losses, torch::_foreach_norm(gradients)});
//   numbers[1][0];                       // the first norm
#pragma once

#include <vector>

#include "headrace/tensor/tensors.h"

namespace headrace {

// Each list's tensors, on one device and of one type and shape, as numbers one after the other.
std::vector<std::vector<double>> to_host(const std::vector<Tensors>& lists);

}  // namespace headrace
