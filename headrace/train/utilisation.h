// How much of what a device can compute went into the model: model FLOP utilisation (Chowdhery et al., PaLM, 2022,
// appendix B). Counted are the matrix products of forward and backward as the model asks for them; what is computed
// again for memory's sake is not.
#pragma once

#include <optional>
#include <string>

#include <torch/types.h>

namespace headrace {

// Operations a second that a device's maker states for dense matrix products of a type; fp32 without TF32.
struct PeakFlops {
  double flops;
  std::string source;  // "NVIDIA H100 Tensor Core GPU data sheet, SXM"
};
// By the device's name ("NVIDIA H100 80GB HBM3"); none where it is not in the table.
std::optional<PeakFlops> stated_peak(const std::string& device_name, torch::ScalarType type);

// Operations a second of a matrix product, the best of a few: what this machine does, for a device that nobody has
// stated a peak of. Takes milliseconds; 0 where there is no memory left for it.
double measured_product(torch::Device device, torch::ScalarType type);

// "1,234 tokens/s; 3.4 TFLOP/s a rank, 34.2% of …". `flops`: of a device, or of a rank of CPUs, a second. `product`: as
// measured, or 0.
std::string utilisation_text(double tokens_per_second,
                             double flops,
                             torch::Device device,
                             torch::ScalarType type,
                             double product);

}  // namespace headrace
