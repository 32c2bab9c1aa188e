// What a stage's forward begins with, kept so that it can be run again as if for the first time,
// though foreign modules (layer.h) write into their inputs and keep a state.
//
//   Beginning beginning(index, inputs, weights, state);
//   outputs = run(beginning.inputs());
//   beginning.settle(outputs);                            // lets go of what is not needed
//   …
//   beginning.check_unchanged();
//   { const Swapped then(beginning.state()); outputs = run(beginning.inputs()); … backward … }
//
// Copies live while the forward runs, and longer only of what it has changed.
#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "headrace/tensor/tensors.h"

namespace headrace {

// Tensors, and other contents for each.
struct Contents {
  Tensors tensors, others;
};

// While it lives, the tensors have the other contents; `others` holds what they had before. It is
// no change that autograd is told of.
class Swapped {
 public:
  explicit Swapped(const Contents& contents) : contents_(contents) { swap(); }
  ~Swapped() { swap(); }
  Swapped(const Swapped&) = delete;
  Swapped& operator=(const Swapped&) = delete;

 private:
  void swap();

  const Contents contents_;
};

class Beginning {
 public:
  // `inputs`: leaves. `stage` is for messages.
  Beginning(int stage, Tensors inputs, Tensors weights);
  // The same for a forward that may write into its inputs and into `state`.
  Beginning(int stage, Tensors inputs, Tensors weights, const Tensors& state);

  // The forward is done.
  void settle(const Tensors& outputs);

  const Tensors& inputs() const { return inputs_; }
  // As it was before the forward, as far as that has changed it.
  const Contents& state() const { return state_; }

  // Throws Error where inputs or weights have been written to since.
  void check_unchanged() const;

 private:
  int stage_;
  Tensors inputs_, weights_;
  std::vector<std::uint32_t> input_versions_, weight_versions_;
  Tensors copies_;  // of inputs
  Contents state_;
};

}  // namespace headrace
