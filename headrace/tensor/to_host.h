// Numbers that a device has computed, on the host in one copy: each copy waits for all that the device is to do
// before.
//
//   const std::vector<double> norms = to_host(torch::_foreach_norm(gradients));
#pragma once

#include <vector>

#include "headrace/tensor/tensors.h"

namespace headrace {

// Of tensors without dimensions, on one device, of any types.
std::vector<double> to_host(const Tensors& numbers);

}  // namespace headrace
