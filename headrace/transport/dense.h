// Tensors as they travel: dense, contiguous, free of history, with their requires_grad.
#pragma once

#include "headrace/transport/transport.h"

namespace headrace {

// The same values in a form that can be moved as raw bytes; shares storage where that is already
// so. Undefined tensors stay undefined. Throws for layouts that have no dense form to move (sparse,
// nested, quantised), naming the label, the tensor's index and its layout.
Tensors dense(const Tensors& tensors, const Label& label);

}  // namespace headrace
