#include "headrace/model/ops/rms_norm.h"

#include "headrace/model/weight_gradients.h"

namespace headrace {

using torch::Tensor;

Tensor rms_scale(const Tensor& x, double epsilon) {
  const auto width = static_cast<double>(x.size(-1));
  return torch::linalg_vector_norm(x, 2, -1, /*keepdim=*/true)
      .square_()
      .div_(width)
      .add_(epsilon)
      .rsqrt_();
}

Tensor rms_norm(const Tensor& x, const Tensor& scale, const Tensor& weight) {
  return (x * scale).mul_(weight);
}

// With s the scale, n the width and g = dy · weight:  dx = s · g − x · s³ / n · Σ g · x.
Tensor rms_norm_backward(const Tensor& dy,
                         const Tensor& x,
                         const Tensor& scale,
                         const Tensor& weight) {
  Tensor product = dy * x;
  const auto width = static_cast<double>(x.size(-1));
  // Σ over the last dimension of dy · x · weight, as a product with a vector.
  const Tensor sums = torch::matmul(product, weight).unsqueeze(-1);
  if (weight.requires_grad())
    gradient_of(weight).add_(product.mul_(scale).reshape({-1, x.size(-1)}).sum(0));
  const Tensor share = scale.pow(3).mul_(sums).div_(width);
  return (dy * weight).mul_(scale).addcmul_(x, share, -1);
}

}  // namespace headrace
