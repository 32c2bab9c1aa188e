// What the parts of the test device share (test_device.h).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>

#include <ATen/core/Tensor.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace headrace::device_parts {

inline std::atomic<std::int64_t> waits = 0;
inline std::atomic<bool> events_held = false;

// This thread is within kernels' stand-ins, so many deep; and the name of the innermost, for what a fault says.
inline thread_local int in_kernel = 0;
inline thread_local const char* kernel = "a copy";

struct InKernel {
  explicit InKernel(const char* name) : outer(std::exchange(kernel, name)) { ++in_kernel; }
  ~InKernel() {
    --in_kernel;
    kernel = outer;
  }
  InKernel(const InKernel&) = delete;
  InKernel& operator=(const InKernel&) = delete;
  const char* const outer;
};

// Streams, events and the current device.
c10::impl::DeviceGuardImplInterface& device_guard();

// The attention of devices by that of the CPU, on copies; as on a GPU flash attention is for half precision alone.
std::int64_t choice(const at::Tensor& q,
                    const at::Tensor& k,
                    const at::Tensor& v,
                    const std::optional<at::Tensor>& mask,
                    double dropout,
                    bool causal,
                    std::optional<double> scale,
                    bool grouped);
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> attend(
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    const std::optional<at::Tensor>& bias,
    bool with_log_sum,
    double dropout,
    bool causal,
    std::optional<double> scale);
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> attend_backward(
    const at::Tensor& gradient,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    const at::Tensor& bias,
    const at::Tensor& out,
    const at::Tensor& log_sum,
    const at::Tensor& seed,
    const at::Tensor& offset,
    double dropout,
    std::array<bool, 4> wanted,
    bool causal,
    std::optional<double> scale);
std::tuple<at::Tensor,
           at::Tensor,
           at::Tensor,
           at::Tensor,
           c10::SymInt,
           c10::SymInt,
           at::Tensor,
           at::Tensor,
           at::Tensor>
flash(const at::Tensor& q,
      const at::Tensor& k,
      const at::Tensor& v,
      double dropout,
      bool causal,
      bool with_mask,
      std::optional<double> scale);
std::tuple<at::Tensor, at::Tensor, at::Tensor> flash_backward(const at::Tensor& gradient,
                                                              const at::Tensor& q,
                                                              const at::Tensor& k,
                                                              const at::Tensor& v,
                                                              const at::Tensor& out,
                                                              const at::Tensor& log_sum,
                                                              const at::Tensor& starts_q,
                                                              const at::Tensor& starts_k,
                                                              c10::SymInt length_q,
                                                              c10::SymInt length_k,
                                                              double dropout,
                                                              bool causal,
                                                              const at::Tensor& seed,
                                                              const at::Tensor& offset,
                                                              std::optional<double> scale);

}  // namespace headrace::device_parts
