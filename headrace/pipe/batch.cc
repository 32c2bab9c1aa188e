#include "headrace/pipe/batch.h"

#include <algorithm>

#include "headrace/base/error.h"
#include "headrace/tensor/to_host.h"

namespace headrace {
namespace {

// Parts over the batch's storage, each with a version of its own, so that autograd does not take a
// write into one for a write into all. (Into tensors made in inference mode nothing is written.)
std::vector<torch::Tensor> cut(const torch::Tensor& batch, std::size_t parts) {
  std::vector<torch::Tensor> all = batch.detach().tensor_split(static_cast<std::int64_t>(parts), 0);
  for (torch::Tensor& part : all)
    if (!part.is_inference()) part = part.variable_data();
  return all;
}

}  // namespace

PipeBatch::PipeBatch(const std::vector<torch::Tensor>& inputs,
                     int microbatches,
                     const std::vector<int>& whole,
                     bool gradients)
    : parts_(static_cast<std::size_t>(microbatches)) {
  check_usage(!inputs.empty(), "Pipe: there is no input");
  rows_ = inputs[0].dim() >= 1 ? inputs[0].size(0) : 0;
  check_usage(rows_ >= microbatches, "Pipe: the batch has ", rows_, " rows, and there are ",
              microbatches, " microbatches; each needs a row");
  for (const int place : whole)
    check_usage(place >= 1 && static_cast<std::size_t>(place) < inputs.size(),
                "Pipe: whole_inputs names input ", place, "; there are inputs 0 to ",
                inputs.size() - 1, ", and the first is cut");
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const torch::Tensor& input = inputs[i];
    const bool is_whole = input.dim() == 0 || std::ranges::count(whole, static_cast<int>(i)) > 0;
    check_usage(is_whole || input.size(0) == rows_, "Pipe: input ", i, " has ",
                is_whole ? 0 : input.size(0), " rows, and the batch ", rows_,
                "; name it in whole_inputs if each microbatch is to get all of it");
    const bool copied = !is_whole && gradients && input.requires_grad();
    inputs_.push_back({input, is_whole, copied, input.is_inference() ? 0 : input._version()});
    std::vector<torch::Tensor> of_all(parts_.size(), input);
    if (!is_whole) of_all = cut(copied ? input.detach().clone() : input, parts_.size());
    for (std::size_t m = 0; m < parts_.size(); ++m)
      parts_[m].push_back(copied ? of_all[m].requires_grad_() : of_all[m]);
  }
}

double PipeBatch::share(int microbatch) const {
  return static_cast<double>(inputs(microbatch)[0].size(0)) / static_cast<double>(rows_);
}

std::vector<torch::Tensor> PipeBatch::cut_target(const torch::Tensor& target) const {
  const std::int64_t rows = target.dim() >= 1 ? target.size(0) : 0;
  check_usage(rows == rows_, "Pipe: the batch has ", rows_, " rows, and the target ", rows);
  return cut(target, parts_.size());
}

void PipeBatch::note_writes() const {
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const Input& input = inputs_[i];
    if (input.copied || input.tensor.is_inference()) continue;
    check(!input.whole || input.tensor._version() == input.version,
          "Pipe: a module wrote into input ", i,
          ", which all microbatches share, so that they saw it in no fixed order; let it write ",
          "into a clone");
    if (!input.whole &&
        std::ranges::any_of(parts_, [&](const auto& part) { return part[i]._version() > 0; }))
      torch::autograd::impl::bump_version(input.tensor);
  }
}

void check_evenly_ignored(const std::vector<torch::Tensor>& targets) {
  constexpr std::int64_t kIgnored = -100;
  if (targets[0].scalar_type() != torch::kInt64) return;  // of which labels are
  Tensors counts;
  for (const torch::Tensor& target : targets) counts.push_back(target.eq(kIgnored).sum());
  const std::vector<double> on_host = to_host({counts}).front();
  const std::vector<std::int64_t> ignored(on_host.begin(), on_host.end());
  std::int64_t all_ignored = 0, all = 0;
  std::size_t most = 0;  // the microbatch of which the largest part is ignored
  for (std::size_t m = 0; m < targets.size(); ++m) {
    all_ignored += ignored[m];
    all += targets[m].numel();
    if (ignored[m] * targets[most].numel() > ignored[most] * targets[m].numel()) most = m;
  }
  check_usage(ignored[most] * all == all_ignored * targets[most].numel(), "Pipe: ", ignored[most],
              " of microbatch ", most, "'s ", targets[most].numel(), " labels are ignored (",
              kIgnored, "), and ", all_ignored, " of the batch's ", all,
              ": each microbatch's mean would count by its rows. Give step() a sum of losses, and ",
              "as its divisor how many labels of the batch count");
}

}  // namespace headrace
