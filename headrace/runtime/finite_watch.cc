#include "headrace/runtime/finite_watch.h"

#include <algorithm>
#include <tuple>

namespace headrace {

void FiniteWatch::look(What what, int layer, int microbatch, const torch::Tensor& tensor) {
  const torch::NoGradGuard no_grad;
  if (!tensor.defined() || !tensor.is_floating_point()) return;
  if (torch::isfinite(tensor).all().item<bool>()) return;
  const bool is_nan = torch::isnan(tensor).any().item<bool>();
  const std::scoped_lock lock(mutex_);
  findings_.push_back({what, microbatch, layer, is_nan});
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
  return findings_;
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
