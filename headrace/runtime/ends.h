// What stands before the first stage of a pipeline and behind the last: where inputs come from, and
// where outputs and, for who asks for them, the gradients of inputs go. Asked on the ranks that hold
// these stages.
#pragma once

#include "headrace/tensor/tensors.h"

namespace headrace {

class Ends {
 public:
  Ends() = default;
  Ends(const Ends&) = delete;
  Ends& operator=(const Ends&) = delete;
  virtual ~Ends() = default;

  // Of a microbatch, for the first stage.
  virtual Tensors inputs(int microbatch) = 0;
  // For the last stage. Undefined: it gives the model's outputs instead of a loss.
  virtual torch::Tensor targets(int) { return {}; }
  // What the last stage gives: Layer::forward.
  virtual void take_outputs(int microbatch, const Tensors& outputs) = 0;
  // The gradients that the last stage's backward starts from, one for each output. Empty: it starts
  // from the loss.
  virtual Tensors output_gradients(int) { return {}; }
  // Of what the first stage was given.
  virtual void take_input_gradients(int, const Tensors&) {}
};

}  // namespace headrace
