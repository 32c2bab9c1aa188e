// Finds which layer was the first to make a number that is none, a NaN or an infinite one: a step that
// has gone wrong is done again with a watch on its stages, which looks at what every layer puts out, at
// the gradients that go back through it and at those of its weights. As steps are repeatable, what
// went wrong does so again.
//
//   FiniteWatch watch;
//   stage.set_watch(&watch, first_layer);
//   …                                        // the step again
//   std::optional<FiniteWatch::Finding> first = FiniteWatch::first(findings_of_all_ranks);
//
// The first is a matter of the model, not of who computed what when, so that it is the same however
// the model is cut: forwards come before backwards, a lower microbatch before a higher one, and of one
// microbatch the layer that its numbers reach first.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "headrace/tensor/tensors.h"

namespace headrace {

class FiniteWatch {
 public:
  enum class What : std::int32_t { Weight, Output, InputGradient, WeightGradient };

  struct Finding {
    What what = What::Weight;
    std::int32_t microbatch = -1;  // none of a weight, which was so before the step
    std::int32_t layer = 0;        // of the model
    bool is_nan = false;           // else infinite
  };

  // Each looks for numbers that are none in the tensors, undefined ones left out. Gradients of weights are
  // set to zero, so that those of the next microbatch are its own.
  void weights(int layer, const Tensors& tensors);
  void outputs(int layer, int microbatch, const Tensors& tensors);
  void weight_gradients(int layer, int microbatch, const Tensors& tensors);
  // Looks at the gradients of these, a layer's inputs, when a backward has made them.
  void input_gradients(int layer, int microbatch, const Tensors& inputs);

  // In one copy from the device, which it waits for.
  std::vector<Finding> findings() const;
  static std::optional<Finding> first(const std::vector<Finding>& all);

 private:
  // What was looked at, whether or not anything is to be found in it.
  struct Seen {
    Finding finding;
    torch::Tensor is_faulty, is_nan;  // where the tensor is
  };

  void look(What what, int layer, int microbatch, const torch::Tensor& tensor);

  mutable std::mutex mutex_;  // autograd's threads tell of gradients
  std::vector<Seen> seen_;
};

}  // namespace headrace
