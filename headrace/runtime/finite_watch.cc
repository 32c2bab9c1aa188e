#include "headrace/runtime/finite_watch.h"

#include <algorithm>
#include <cstddef>
#include <tuple>

#include "headrace/tensor/to_host.h"

namespace headrace {

void FiniteWatch::look(What what, int layer, int microbatch, const torch::Tensor& tensor) {
  const torch::NoGradGuard no_grad;
  if (!tensor.defined() || !tensor.is_floating_point()) return;
  const torch::Tensor is_faulty = torch::isfinite(tensor).all().logical_not();
  const torch::Tensor is_nan = torch::isnan(tensor).any();
  const std::scoped_lock lock(mutex_);
  seen_.push_back({{what, microbatch, layer, false}, is_faulty, is_nan});
}

void FiniteWatch::weights(int layer, const Tensors& tensors) {
  for (const torch::Tensor& tensor : tensors) look(What::Weight, layer, -1, tensor);
}

void FiniteWatch::outputs(int layer, int microbatch, const Tensors& tensors) {
  for (const torch::Tensor& tensor : tensors) look(What::Output, layer, microbatch, tensor);
}

void FiniteWatch::weight_gradients(int layer, int microbatch, const Tensors& tensors) {
  const torch::NoGradGuard no_grad;
  for (const torch::Tensor& tensor : tensors) {
    torch::Tensor gradient = tensor.grad();
    if (!gradient.defined()) continue;
    look(What::WeightGradient, layer, microbatch, gradient);
    gradient.zero_();
  }
}

void FiniteWatch::input_gradients(int layer, int microbatch, const Tensors& inputs) {
  for (const torch::Tensor& input : inputs) {
    if (!input.defined() || !input.requires_grad()) continue;
    input.register_hook([this, layer, microbatch](const torch::Tensor& gradient) {
      look(What::InputGradient, layer, microbatch, gradient);
    });
  }
}

std::vector<FiniteWatch::Finding> FiniteWatch::findings() const {
  const std::scoped_lock lock(mutex_);
  std::vector<Tensors> faulty_and_nan(2);
  for (const Seen& seen : seen_) {
    faulty_and_nan[0].push_back(seen.is_faulty);
    faulty_and_nan[1].push_back(seen.is_nan);
  }
  const std::vector<std::vector<double>> on_host = to_host(faulty_and_nan);
  std::vector<Finding> findings;
  for (std::size_t i = 0; i < seen_.size(); ++i) {
    if (on_host[0][i] == 0) continue;
    findings.push_back(seen_[i].finding);
    findings.back().is_nan = on_host[1][i] > 0;
  }
  return findings;
}

std::optional<FiniteWatch::Finding> FiniteWatch::first(const std::vector<Finding>& all) {
  if (all.empty()) return std::nullopt;
  // The gradients of a layer's weights come with those of its inputs, and are then its own doing.
  const auto order = [](const Finding& finding) {
    const int phase = finding.what == What::Weight ? 0 : finding.what == What::Output ? 1 : 2;
    return std::tuple(phase, finding.microbatch, phase == 2 ? -finding.layer : finding.layer,
                      finding.what);
  };
  return std::ranges::min(all, {}, order);
}

}  // namespace headrace
