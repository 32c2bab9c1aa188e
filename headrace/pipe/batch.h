// A batch cut into microbatches along its first dimension, as evenly as it goes (pipe.h).
//
//   const PipeBatch batch(inputs, 8, {2}, true);
//   … batch.inputs(m), batch.share(m) …
//   batch.note_writes();
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <torch/torch.h>

namespace headrace {

class PipeBatch {
 public:
  // `whole`: places of inputs that each microbatch gets all of. Parts are the caller's own rows,
  // for modules to write to as without a pipe; of an input that wants a gradient, where
  // `gradients` are wanted at all, they are copies: other uses of it are to find it as it was.
  // Throws UsageError where sizes do not fit.
  PipeBatch(const std::vector<torch::Tensor>& inputs,
            int microbatches,
            const std::vector<int>& whole,
            bool gradients);

  const std::vector<torch::Tensor>& inputs(int microbatch) const {
    return parts_[static_cast<std::size_t>(microbatch)];
  }
  // Of the batch's rows.
  double share(int microbatch) const;

  // One part a microbatch, of what has the batch's rows too. Throws UsageError where it has not.
  std::vector<torch::Tensor> cut_target(const torch::Tensor& target) const;

  // To be called after a run: what modules wrote into their parts, autograd is to know of as
  // written into the inputs. Throws Error where they wrote into what all microbatches share.
  void note_writes() const;

 private:
  struct Input {
    torch::Tensor tensor;
    bool whole, copied;
    std::int64_t version;
  };

  std::int64_t rows_ = 0;
  std::vector<Input> inputs_;
  std::vector<std::vector<torch::Tensor>> parts_;  // by microbatch
};

// Throws UsageError where a mean over the labels that count is not one over the microbatches' rows:
// −100 stands for one that does not, as for torch's cross_entropy.
void check_evenly_ignored(const std::vector<torch::Tensor>& targets);

}  // namespace headrace
