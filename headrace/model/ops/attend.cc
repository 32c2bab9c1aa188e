#include "headrace/model/ops/attend.h"

#include <cmath>
#include <cstdint>

namespace headrace {
namespace {

using torch::Tensor;

constexpr double kNoDropout = 0;
constexpr bool kCausal = true;

bool has_flash(const Tensor& q, const Tensor& k, const Tensor& v) {
  constexpr std::int64_t kFlash = 1;  // of libtorch's enumeration of backends
  return q.scalar_type() != torch::kFloat32 &&
         torch::_fused_sdp_choice(q, k, v, /*attn_mask=*/{}, kNoDropout, kCausal) == kFlash;
}

// The kernels of devices load 16 bytes at a time: they take heads that are so many numbers wide, in fp32 more finely.
// Zeros beside them change no product.
constexpr std::int64_t kWidths = 8;

Tensor padded(const Tensor& tensor) {
  const std::int64_t over = tensor.size(-1) % kWidths;
  return over == 0 ? tensor : torch::constant_pad_nd(tensor, {0, kWidths - over});
}

Tensor cut(const Tensor& tensor, std::int64_t width) {
  return tensor.narrow(-1, 0, width);
}

double scale_of(std::int64_t width) {
  return 1 / std::sqrt(static_cast<double>(width));
}

Attended attend_on_device(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  Attended done;
  if (has_flash(q, k, v)) {
    auto all = torch::_scaled_dot_product_flash_attention(q, k, v, kNoDropout, kCausal,
                                                          /*return_debug_mask=*/false, scale);
    return {std::get<0>(all), std::get<1>(all), std::get<6>(all), std::get<7>(all)};
  }
  std::tie(done.result, done.log_sum, done.seed, done.offset) =
      torch::_scaled_dot_product_efficient_attention(
          q, k, v, /*attn_bias=*/{}, /*compute_log_sumexp=*/true, kNoDropout, kCausal, scale);
  return done;
}

}  // namespace

Attended attend(const Tensor& q, const Tensor& k, const Tensor& v) {
  Attended done;
  if (q.is_cpu()) {
    std::tie(done.result, done.log_sum) =
        torch::_scaled_dot_product_flash_attention_for_cpu(q, k, v, kNoDropout, kCausal);
    return done;
  }
  const std::int64_t width = q.size(-1);
  done = attend_on_device(padded(q), padded(k), padded(v), scale_of(width));
  done.result = cut(done.result, width);
  return done;
}

std::tuple<Tensor, Tensor, Tensor> attend_backward(const Tensor& gradient,
                                                   const Tensor& q,
                                                   const Tensor& k,
                                                   const Tensor& v,
                                                   const Attended& attended) {
  if (q.is_cpu())
    return torch::_scaled_dot_product_flash_attention_for_cpu_backward(
        gradient, q, k, v, attended.result, attended.log_sum, kNoDropout, kCausal);
  const std::int64_t width = q.size(-1);
  const double scale = scale_of(width);
  const Tensor wide_q = padded(q), wide_k = padded(k), wide_v = padded(v);
  Tensor dq, dk, dv;
  if (has_flash(wide_q, wide_k, wide_v)) {  // as in the forward
    const Tensor none;                      // of sequences of several lengths
    std::tie(dq, dk, dv) = torch::_scaled_dot_product_flash_attention_backward(
        padded(gradient), wide_q, wide_k, wide_v, padded(attended.result), attended.log_sum, none,
        none, q.size(2), k.size(2), kNoDropout, kCausal, attended.seed, attended.offset, scale);
  } else {
    std::tie(dq, dk, dv, std::ignore) = torch::_scaled_dot_product_efficient_attention_backward(
        padded(gradient), wide_q, wide_k, wide_v, /*attn_bias=*/{}, padded(attended.result),
        attended.log_sum, attended.seed, attended.offset, kNoDropout, {true, true, true, false},
        kCausal, scale);
  }
  return {cut(dq, width), cut(dk, width), cut(dv, width)};
}

}  // namespace headrace
