#include "headrace/model/attention.h"

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

}  // namespace

Attended attend(const Tensor& q, const Tensor& k, const Tensor& v) {
  Attended done;
  if (q.is_cpu()) {
    std::tie(done.result, done.log_sum) =
        torch::_scaled_dot_product_flash_attention_for_cpu(q, k, v, kNoDropout, kCausal);
  } else if (has_flash(q, k, v)) {
    auto all = torch::_scaled_dot_product_flash_attention(q, k, v, kNoDropout, kCausal);
    done = {std::get<0>(all), std::get<1>(all), true, std::get<6>(all), std::get<7>(all)};
  } else {
    std::tie(done.result, done.log_sum, done.seed, done.offset) =
        torch::_scaled_dot_product_efficient_attention(
            q, k, v, /*attn_bias=*/{}, /*compute_log_sumexp=*/true, kNoDropout, kCausal);
  }
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
  if (attended.by_flash) {
    const Tensor none;  // of sequences of several lengths
    return torch::_scaled_dot_product_flash_attention_backward(
        gradient, q, k, v, attended.result, attended.log_sum, none, none, q.size(2), k.size(2),
        kNoDropout, kCausal, attended.seed, attended.offset);
  }
  auto [dq, dk, dv, d_bias] = torch::_scaled_dot_product_efficient_attention_backward(
      gradient, q, k, v, /*attn_bias=*/{}, attended.result, attended.log_sum, attended.seed,
      attended.offset, kNoDropout, {true, true, true, false}, kCausal);
  return {dq, dk, dv};
}

}  // namespace headrace
