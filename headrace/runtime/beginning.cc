#include "headrace/runtime/beginning.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "headrace/base/error.h"

namespace headrace {
namespace {

// Grows whenever an operation of torch writes into the tensor, or into another over its storage.
std::uint32_t version_of(const torch::Tensor& tensor) {
  return tensor.defined() && !tensor.is_inference() ? static_cast<std::uint32_t>(tensor._version())
                                                    : 0;
}

std::vector<std::uint32_t> versions_of(const Tensors& tensors) {
  std::vector<std::uint32_t> versions;
  for (const torch::Tensor& tensor : tensors) versions.push_back(version_of(tensor));
  return versions;
}

}  // namespace

void Swapped::swap() {
  for (std::size_t i = 0; i < contents_.tensors.size(); ++i) {
    // The same storage with a version of its own.
    const torch::Tensor tensor = contents_.tensors[i].variable_data();
    const torch::Tensor contents = tensor.clone();
    tensor.copy_(contents_.others[i]);
    contents_.others[i].copy_(contents);
  }
}

Beginning::Beginning(int stage, Tensors inputs, Tensors weights)
    : stage_(stage),
      inputs_(std::move(inputs)),
      weights_(std::move(weights)),
      input_versions_(versions_of(inputs_)),
      weight_versions_(versions_of(weights_)) {}

Beginning::Beginning(int stage, Tensors inputs, Tensors weights, const Tensors& state)
    : Beginning(stage, std::move(inputs), std::move(weights)) {
  for (const torch::Tensor& input : inputs_) {
    copies_.push_back(input.defined() ? input.detach().clone().requires_grad_(input.requires_grad())
                                      : input);
  }
  for (const torch::Tensor& tensor : state) {
    // A module that stands twice in a stage has one state.
    if (std::ranges::any_of(state_.tensors,
                            [&](const auto& known) { return known.is_same(tensor); }))
      continue;
    state_.tensors.push_back(tensor);
    state_.others.push_back(tensor.detach().clone());
  }
}

void Beginning::settle(const Tensors& outputs) {
  for (std::size_t i = 0; i < copies_.size(); ++i) {
    const torch::Tensor& input = inputs_[i];
    // The next stage may write into what it is given. (Side inputs are given on and on.)
    const bool given_on = i == 0 && input.defined() && !outputs.empty() && outputs[0].defined() &&
                          outputs[0].is_alias_of(input);
    if (!given_on && version_of(input) == input_versions_[i]) continue;
    inputs_[i] = copies_[i];
    input_versions_[i] = version_of(copies_[i]);
  }
  copies_.clear();
  const Contents all = std::exchange(state_, {});
  for (std::size_t i = 0; i < all.tensors.size(); ++i) {
    // Not by their versions: batch norm's kernels do not tell.
    if (torch::equal(all.tensors[i], all.others[i])) continue;
    state_.tensors.push_back(all.tensors[i]);
    state_.others.push_back(all.others[i]);
  }
}

void Beginning::check_unchanged() const {
  const char* next =
      " changed between its forward and its backward, which is to compute the forward "
      "again; do so after the backward, or do not recompute this stage";
  check(versions_of(weights_) == weight_versions_, "a weight of stage ", stage_, next);
  check(versions_of(inputs_) == input_versions_, "an input of stage ", stage_, next);
}

}  // namespace headrace
