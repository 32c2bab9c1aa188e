#include "headrace/train/utilisation.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/tensor/devices.h"
#include "headrace/tensor/exception_text.h"

namespace headrace {
namespace {

constexpr double kTera = 1e12;

// As data sheets give them, in TFLOP/s; where they give a figure with sparsity alone, half of it. The first whose
// words the name holds.
struct Row {
  std::string_view words;
  double fp32, bf16, fp16;
  std::string_view source;
};
constexpr std::array kTable = {
    Row{"B200", 75, 2250, 2250, "NVIDIA HGX B200 data sheet"},
    Row{"H200", 67, 989.5, 989.5, "NVIDIA H200 data sheet, SXM"},
    Row{"H100 PCIe", 51, 756.5, 756.5, "NVIDIA H100 data sheet, PCIe"},
    Row{"H100 80GB HBM3", 67, 989.5, 989.5, "NVIDIA H100 data sheet, SXM"},
    Row{"A100", 19.5, 312, 312, "NVIDIA A100 data sheet"},
    Row{"L40S", 91.6, 362, 362, "NVIDIA L40S data sheet"},
    Row{"L4", 30.3, 121, 121, "NVIDIA L4 data sheet"},
    Row{"A10", 31.2, 125, 125, "NVIDIA A10 data sheet"},
    Row{"V100 PCIE", 14, 0, 112, "NVIDIA V100 data sheet, PCIe"},
    Row{"V100", 15.7, 0, 125, "NVIDIA V100 data sheet, SXM2"},
    Row{"T4", 8.1, 0, 65, "NVIDIA T4 data sheet"},
    Row{"RTX 4090", 82.6, 165.2, 165.2, "NVIDIA Ada GPU architecture white paper"},
    Row{"RTX 3090", 35.6, 71, 71, "NVIDIA GA102 GPU architecture white paper"},
};

// Among the name's words, so that "A10" is not found in "A100".
bool holds(const std::string& name, std::string_view words) {
  std::string spaced = " " + name + " ";
  std::ranges::replace(spaced, '-', ' ');
  return spaced.find(cat(" ", words, " ")) != std::string::npos;
}

std::string flops_text(double flops) {
  return flops >= kTera ? cat(fixed_text(flops / kTera, 1), " TFLOP/s")
                        : cat(fixed_text(flops / 1e9, 1), " GFLOP/s");
}

// A slice of a device, or a lesser or greater one of nearly its name.
bool is_another(const std::string& name) {
  return std::ranges::any_of(std::array{"MIG", "Laptop", "Ti", "D", "SUPER"},
                             [&](const char* word) { return holds(name, word); });
}

}  // namespace

std::optional<PeakFlops> stated_peak(const std::string& device_name, torch::ScalarType type) {
  if (is_another(device_name)) return std::nullopt;
  for (const Row& row : kTable) {
    if (!holds(device_name, row.words)) continue;
    const double peak = type == torch::kBFloat16  ? row.bf16
                        : type == torch::kFloat16 ? row.fp16
                                                  : row.fp32;
    if (peak > 0) return PeakFlops{peak * kTera, std::string(row.source)};
  }
  return std::nullopt;
}

namespace {

// The least of a few, of a product as a layer's is: with the transpose of the second, for which half precision on CPUs
// has the quick way.
double product_seconds(const torch::Tensor& a) {
  constexpr int kTimes = 3;
  torch::Tensor result = torch::mm(a, a.t());
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kTimes; ++i) {
    (void)result[0][0].item<double>();  // waits
    const auto begin = std::chrono::steady_clock::now();
    torch::mm_out(result, a, a.t());
    (void)result[0][0].item<double>();
    least = std::min(
        least, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return least;
}

}  // namespace

double measured_product(torch::Device device, torch::ScalarType type) {
  constexpr std::int64_t kSmallest = 256, kLargest = 8192;
  constexpr double kLongEnough = 2e-3;  // seconds; beside it the wait for a device is nothing
  const torch::NoGradGuard no_grad;
  double best = 0, taken = 0;
  try {
    for (std::int64_t n = kSmallest; n <= kLargest && taken < kLongEnough; n *= 2) {
      taken = product_seconds(torch::ones({n, n}, torch::TensorOptions(type).device(device)));
      best = std::max(best, 2 * std::pow(static_cast<double>(n), 3) / taken);
    }
  } catch (const std::exception& error) {
    if (!is_of_memory(error)) throw;
    return 0;
  }
  return best;
}

std::string utilisation_text(double tokens_per_second,
                             double flops,
                             torch::Device device,
                             torch::ScalarType type,
                             double product) {
  std::string text = cat(count_text(static_cast<std::int64_t>(tokens_per_second)), " tokens/s; ",
                         flops_text(flops), " of the model's matrix products a ",
                         device.is_cpu() ? "rank" : "device");
  if (const auto peak = stated_peak(device_name(device), type))
    return text + cat(", ", fixed_text(100 * flops / peak->flops, 1), "% of ",
                      flops_text(peak->flops), " (MFU; ", peak->source, ")");
  if (product == 0) return text;
  return text + cat(", ", fixed_text(100 * flops / product, 1), "% of what one does here, ",
                    flops_text(product));
}

}  // namespace headrace
