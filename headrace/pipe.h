// Pipeline parallelism for a torch::nn::Sequential, in one process: each stage is a thread with a
// device of its own.
//
//   headrace::Pipe pipe(model, {.balance = {10, 10, 10}, .microbatches = 8});
//   torch::optim::SGD optimizer(pipe.parameters(), 0.01);
//
//   optimizer.zero_grad();                                 // either: an ordinary training loop
//   auto loss = torch::mse_loss(pipe.forward(input), target);
//   loss.backward();
//   optimizer.step();
//
//   optimizer.zero_grad();                                 // or: through any schedule
//   double loss = pipe.step(input, target, torch::mse_loss);
//   optimizer.step();
//
// A batch is cut into microbatches along its first dimension, as evenly as it goes. Side inputs (a
// mask, positions) may follow the first input: pipe.step({input, mask}, …). They are cut with it
// and given to every module whose forward takes more than one tensor, in their order; the first
// tensor is the one that modules hand on. Those that each microbatch is to get whole are listed in
// `whole_inputs`; tensors without dimensions are anyway. A module may write into its input, as in
// the plain model; an input that wants a gradient is copied first.
//
// The loss is a mean over rows. Where labels are masked, or rows count unequally, give a sum and
// what to divide it by, so that the result is that of one process over the whole batch:
//
//   pipe.step(input, labels, [](const auto& output, const auto& target) {
//     return F::cross_entropy(output, target, F::CrossEntropyFuncOptions().reduction(torch::kSum));
//   }, labels.ne(-100).sum().item<double>());
//
// The modules stay the caller's: they are moved to their devices, trained in place, and gradients
// are added to the `.grad` of the parameters that they have registered. One that stands several
// times in the model must do so in one stage. Modules are called once a microbatch, in ascending
// order, from the thread of their rank, which is kept until the Pipe's end or a failure: one that
// looks at the whole batch (BatchNorm) sees a microbatch.
//
// What a module's forward draws from torch's default generators (Dropout) is keyed by the run, the
// microbatch and the module: it is the same for every cut and schedule. torch::manual_seed()
// decides it; the CPU's generator moves on by one draw a run, and not at all where nothing was
// drawn.
//
// Stages in `recompute` run their forward again for the backward, with the same inputs and draws,
// and their buffers end as after one forward. What a module keeps elsewhere (a counter that is no
// tensor, a generator of its own) and what it writes past torch's operations cannot be seen: do not
// recompute it.
//
// Not for calls from several threads at once. Throws UsageError where sizes do not fit, Error with
// the stage, action and cause where a module throws.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "headrace/timeline/timeline.h"

namespace headrace {

struct PipeOptions {
  // Modules a stage, in order; their sum is the model's. Empty: one stage a device (or rank), cut
  // so that the largest number of parameters of a stage is least.
  std::vector<int> balance = {};
  int microbatches = 1;
  std::string schedule =
      "1f1b";  // of step(): any synchronous one with one copy of the weights, or a file
  std::vector<torch::Device> devices = {};  // a rank each; empty: the CPU for all
  std::vector<int> recompute = {};          // stages that recompute their activations; {-1}: all
  // bf16 or fp16: operations choose their type as under torch's autocast; weights stay fp32. A
  // gradient scale for fp16 is yours to put into the loss.
  torch::ScalarType precision = torch::kFloat32;
  std::vector<int> whole_inputs = {};  // not cut into microbatches: places, of 1 and more
  int threads = 0;                     // intra-op threads a rank on the CPU; 0: cores ÷ ranks
};

class Pipe {
 public:
  using Loss = std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>;

  Pipe(torch::nn::Sequential model, const PipeOptions& options);
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe();

  // Of all stages, in the model's order, each once.
  std::vector<torch::Tensor> parameters() const;

  // Forward and backward of a whole batch through the schedule; the result is the batch's loss.
  // Without a divisor `loss` is a mean over rows, and each microbatch counts by its rows; labels of
  // −100 that are spread unevenly, and a mean that is NaN of an output that is not, are refused.
  // With one `loss` is a sum, to be divided by it. Gradients are added to the parameters'.
  double step(const torch::Tensor& input,
              const torch::Tensor& target,
              const Loss& loss,
              std::optional<double> divisor = std::nullopt);
  double step(const std::vector<torch::Tensor>& inputs,
              const torch::Tensor& target,
              const Loss& loss,
              std::optional<double> divisor = std::nullopt);

  // The model's output, on the last stage's device. Under torch::NoGradGuard nothing is saved; else
  // backward() may be called on what is made of it, once, before the next forward() or step().
  // Of several inputs the first gets a gradient.
  torch::Tensor forward(const torch::Tensor& input);
  torch::Tensor forward(const std::vector<torch::Tensor>& inputs);

  int ranks() const;
  // Modules of each stage.
  std::vector<int> balance() const;
  // What each rank did, and when, in the last step() or forward() and its backward().
  const Timeline& timeline() const;

 private:
  struct Inside;
  std::shared_ptr<Inside> inside_;
};

}  // namespace headrace
