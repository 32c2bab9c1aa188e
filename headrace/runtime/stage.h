// A Stage is a contiguous slice of the model's layers on one rank: it owns only those, their weights
// with the gradients, and what their forwards have saved for each microbatch in flight.
//
//   Tensors out = stage.forward(3, {hidden}, context);   // saved until microbatch 3's backward
//   Tensors dx = stage.backward(3, {d_out});
//   // or, in two parts:  stage.backward_input(3, {d_out});  …  stage.backward_weight(3);
//
// Outputs are detached. Of a saved forward only what the backward needs is kept: not the outputs,
// and with Recompute::All only what it began with (the forward is run again before the backward;
// its random draws are keyed, so it is the same, and it leaves no trace: beginning.h). Gradients
// add up in the weights' `.grad`, in the order of the calls. Operations choose their types by
// the context's precision; what goes to the next stage is left as it is, which for torch's autocast
// and this project's layers is mostly fp32.
//
// Asynchronous schedules update a stage while microbatches are under way. A microbatch's backward
// uses the weights of its forward (weight stashing: Narayanan et al., PipeDream, SOSP 2019): an
// update makes new tensors where old ones are still needed, and these live as long as that
// (stage_weights.h).
//
// Throws Error where a microbatch is run twice or backward comes first. Used by the one
// thread of its rank.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "headrace/model/layer.h"
#include "headrace/plan/recompute.h"
#include "headrace/runtime/beginning.h"
#include "headrace/runtime/finite_watch.h"
#include "headrace/runtime/stage_weights.h"

namespace headrace {

class Stage {
 public:
  // `weights`: for each layer, in the order of its parameters.
  Stage(int index,
        std::vector<std::unique_ptr<Layer>> layers,
        LayersWeights weights,
        Recompute recompute);

  int index() const { return index_; }
  StageWeights& weights() { return weights_; }

  // Inputs that are floating and `requires_grad` get a gradient. Outside training nothing is saved.
  // `version`: which weights, by the updates since weights().begin_versions(); not older than those
  // of forwards before. Below 0: the newest.
  Tensors forward(int microbatch, const Tensors& inputs, const Context& context, int version = -1);

  // `output_gradients`: one for each output of the forward, undefined where it needs none; empty
  // for the last stage, whose first output is the loss. Returns one gradient for each input,
  // undefined where it needs none.
  Tensors backward(int microbatch, const Tensors& output_gradients);

  // The same in two halves: the input gradients at once, the weight gradients when asked for.
  Tensors backward_input(int microbatch, const Tensors& output_gradients);
  void backward_weight(int microbatch);

  // The weights are about to change: see StageWeights::advance.
  void next_version(bool keep) { weights_.advance(keep, !saved_.empty()); }
  // They have been given values that no step has led to.
  void note_new_weights() { ++weights_given_; }

  // Lets go of all that is saved, as where a step has failed.
  void forget();

  // From now on the watch, which may be null, is shown what the layers make; `first_layer` is the
  // place of the stage's first in the model.
  void set_watch(FiniteWatch* watch, int first_layer);

  // Microbatches whose forward is saved.
  std::size_t in_flight() const { return saved_.size(); }

 private:
  struct Saved {
    Tensors inputs;
    // None where an output needs no gradient.
    std::vector<std::optional<torch::autograd::Edge>> outputs;
    Tensors seed;  // the gradient the last stage starts from
    // Instead, with recompute, what the forward is run again with.
    std::optional<Beginning> beginning = {};
    LayersWeights weights = {};
    Context context = {};
    int version = -1;
  };

  Tensors state() const;
  void watch_weight_gradients(int microbatch);
  Tensors run(const Tensors& inputs,
              const Context& context,
              const LayersWeights& weights,
              int version);
  Tensors forward_to_recompute(int microbatch,
                               const Tensors& inputs,
                               const Context& context,
                               const LayersWeights& weights,
                               int version);
  Saved save(const Tensors& inputs, const Tensors& outputs, double backward_scale);
  Tensors backward_through(Saved saved, const Tensors& output_gradients);
  Tensors backward_to_inputs(const Saved& saved,
                             const Contents& state,
                             const torch::autograd::edge_list& roots,
                             const torch::autograd::variable_list& gradients);

  int index_;
  std::vector<std::unique_ptr<Layer>> layers_;
  StageWeights weights_;
  Recompute recompute_;
  torch::DeviceType device_ = torch::kCPU;
  bool foreign_ = false;  // one of the layers is
  WeightGradients weight_gradients_;
  std::map<int, Saved> saved_;
  std::map<int, std::vector<WeightGradients::Work>> deferred_;
  std::int64_t weights_given_ = 0;
  FiniteWatch* watch_ = nullptr;
  int first_layer_ = 0;
};

}  // namespace headrace
