// What stands at the two ends of a Pipe: of step(), of forward() and of its backward().
#pragma once

#include <cstddef>

#include "headrace/model/module_layer.h"
#include "headrace/pipe/batch.h"
#include "headrace/runtime/ends.h"
#include "headrace/tensor/to_host.h"

namespace headrace {

class StepEnds : public Ends {
 public:
  StepEnds(const PipeBatch& batch, const Tensors& targets)
      : batch_(batch), targets_(targets), losses_(targets.size()) {}

  Tensors inputs(int m) override { return batch_.inputs(m); }
  torch::Tensor targets(int m) override { return targets_[static_cast<std::size_t>(m)]; }
  void take_outputs(int m, const Tensors& outputs) override {
    losses_[static_cast<std::size_t>(m)] = outputs.at(0).detach();
    if (outputs.size() > 1) means_of_nothing_.resize(losses_.size());
    if (outputs.size() > 1) means_of_nothing_[static_cast<std::size_t>(m)] = outputs.at(1);
  }

  // In one copy from the device, which it waits for.
  double loss() const {
    const std::vector<std::vector<double>> numbers = to_host({losses_, means_of_nothing_});
    for (std::size_t m = 0; m < numbers[1].size(); ++m)
      if (numbers[1][m] > 0) refuse_mean_of_nothing(static_cast<int>(m));
    double sum = 0;
    for (const double loss : numbers[0]) sum += loss;
    return sum;
  }

 private:
  const PipeBatch& batch_;
  const Tensors& targets_;
  Tensors losses_;            // by microbatch
  Tensors means_of_nothing_;  // whether it is one; on devices alone (module_layer.h)
};

class ForwardEnds : public Ends {
 public:
  ForwardEnds(const PipeBatch& batch, int microbatches)
      : batch_(batch), outputs_(static_cast<std::size_t>(microbatches)) {}

  Tensors inputs(int m) override { return batch_.inputs(m); }
  void take_outputs(int m, const Tensors& outputs) override {
    outputs_[static_cast<std::size_t>(m)] = outputs.at(0).detach();
  }

  const Tensors& outputs() const { return outputs_; }

 private:
  const PipeBatch& batch_;
  Tensors outputs_;
};

class BackwardEnds : public Ends {
 public:
  explicit BackwardEnds(Tensors gradients)
      : gradients_(std::move(gradients)), input_gradients_(gradients_.size()) {}

  Tensors inputs(int) override { return {}; }
  void take_outputs(int, const Tensors&) override {}
  Tensors output_gradients(int m) override { return {gradients_[static_cast<std::size_t>(m)]}; }
  void take_input_gradients(int m, const Tensors& of_inputs) override {
    input_gradients_[static_cast<std::size_t>(m)] = of_inputs.at(0);
  }

  const Tensors& input_gradients() const { return input_gradients_; }

 private:
  const Tensors gradients_;
  Tensors input_gradients_;
};

}  // namespace headrace
