#include <torch/torch.h>

#include "tests/device/parts.h"

namespace headrace::device_parts {
namespace {

using at::Tensor;

Tensor to_host(const Tensor& tensor) {
  return tensor.to(c10::kCPU);
}

Tensor back(const Tensor& tensor, const Tensor& like) {
  return tensor.defined() ? tensor.to(like.device()) : tensor;
}

// CUDA's load 16 bytes at a time.
void require_width(const Tensor& q) {
  constexpr std::int64_t kLoad = 16;
  TORCH_CHECK(q.size(-1) * q.element_size() % kLoad == 0, "heads of ", q.size(-1),
              " numbers are not aligned");
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> attend(const Tensor& q,
                                                  const Tensor& k,
                                                  const Tensor& v,
                                                  const std::optional<Tensor>&,
                                                  bool,
                                                  double dropout,
                                                  bool causal,
                                                  std::optional<double> scale) {
  require_width(q);
  const InKernel within("attention");
  auto [out, log_sum] = at::_scaled_dot_product_flash_attention_for_cpu(
      to_host(q), to_host(k), to_host(v), dropout, causal, {}, scale);
  const Tensor none = torch::empty({0}, q.options().dtype(torch::kInt64));
  return {back(out, q), back(log_sum, q), none, none};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attend_backward(const Tensor& gradient,
                                                           const Tensor& q,
                                                           const Tensor& k,
                                                           const Tensor& v,
                                                           const Tensor&,
                                                           const Tensor& out,
                                                           const Tensor& log_sum,
                                                           const Tensor&,
                                                           const Tensor&,
                                                           double dropout,
                                                           std::array<bool, 4>,
                                                           bool causal,
                                                           std::optional<double> scale) {
  require_width(q);
  const InKernel within("attention");
  auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      to_host(gradient), to_host(q), to_host(k), to_host(v), to_host(out), to_host(log_sum),
      dropout, causal, {}, scale);
  return {back(dq, q), back(dk, q), back(dv, q), Tensor()};
}

std::int64_t choice(const Tensor& q,
                    const Tensor&,
                    const Tensor&,
                    const std::optional<Tensor>&,
                    double,
                    bool,
                    std::optional<double>,
                    bool) {
  constexpr std::int64_t kFlash = 1, kEfficient = 2;
  return q.scalar_type() == at::kFloat ? kEfficient : kFlash;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor> flash(
    const Tensor& q,
    const Tensor& k,
    const Tensor& v,
    double dropout,
    bool causal,
    bool,
    std::optional<double> scale) {
  TORCH_CHECK(q.scalar_type() != at::kFloat, "flash attention is for half precision");
  auto [out, log_sum, seed, offset] = attend(q, k, v, {}, true, dropout, causal, scale);
  return {out, log_sum, {}, {}, q.size(2), k.size(2), seed, offset, {}};
}

std::tuple<Tensor, Tensor, Tensor> flash_backward(const Tensor& gradient,
                                                  const Tensor& q,
                                                  const Tensor& k,
                                                  const Tensor& v,
                                                  const Tensor& out,
                                                  const Tensor& log_sum,
                                                  const Tensor&,
                                                  const Tensor&,
                                                  c10::SymInt,
                                                  c10::SymInt,
                                                  double dropout,
                                                  bool causal,
                                                  const Tensor& seed,
                                                  const Tensor& offset,
                                                  std::optional<double> scale) {
  auto [dq, dk, dv, none] = attend_backward(gradient, q, k, v, {}, out, log_sum, seed, offset,
                                            dropout, {}, causal, scale);
  return {dq, dk, dv};
}

}  // namespace headrace::device_parts
