#include "headrace/model/ops/activate.h"

#include <stdexcept>

namespace headrace {

using torch::Tensor;

Tensor activate(Activation kind, const Tensor& x) {
  switch (kind) {
    case Activation::GeluTanh:
      return torch::gelu(x, "tanh");
    case Activation::Gelu:
      return torch::gelu(x);
    case Activation::Relu:
      return torch::relu(x);
    case Activation::Silu:
      return torch::silu(x);
  }
  throw std::logic_error("an activation that is none");
}

Tensor activate_backward(Activation kind, const Tensor& dy, const Tensor& x) {
  switch (kind) {
    case Activation::GeluTanh:
      return torch::gelu_backward(dy, x, "tanh");
    case Activation::Gelu:
      return torch::gelu_backward(dy, x);
    case Activation::Relu:
      return torch::threshold_backward(dy, x, 0);
    case Activation::Silu:
      return at::silu_backward(dy, x);
  }
  throw std::logic_error("an activation that is none");
}

}  // namespace headrace
