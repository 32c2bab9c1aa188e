#include "headrace/transport/dense.h"

namespace headrace {

namespace {

torch::Tensor dense(const torch::Tensor& tensor, std::size_t index, const Label& label) {
  if (!tensor.defined()) return tensor;
  check(tensor.layout() == torch::kStrided && !tensor.is_nested() && !tensor.is_quantized(),
        "tensor ", index, " of ", to_string(label), " has layout ", tensor.layout(), " and type ",
        tensor.dtype(), ": stages pass dense tensors; call to_dense() in the layer before the cut");
  // contiguous() keeps lazy conjugation and negation, which raw bytes would lose.
  return tensor.detach().resolve_conj().resolve_neg().contiguous().set_requires_grad(
      tensor.requires_grad());
}

}  // namespace

Tensors dense(const Tensors& tensors, const Label& label) {
  const torch::NoGradGuard no_grad;
  Tensors result;
  result.reserve(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) result.push_back(dense(tensors[i], i, label));
  return result;
}

}  // namespace headrace
