#include "headrace/runtime/stage.h"

#include <cassert>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <torch/csrc/autograd/engine.h>

#include "headrace/base/error.h"
#include "headrace/model/precision.h"

namespace headrace {
namespace {

// Leaves of this stage's own graph, over the same storage.
Tensors as_leaves(const Tensors& inputs) {
  Tensors leaves;
  for (const torch::Tensor& input : inputs) {
    leaves.push_back(input.defined() ? input.detach().requires_grad_(input.requires_grad())
                                     : input);
  }
  return leaves;
}

// The same values for a module to write into, as it may between any two modules of a model:
// autograd allows it neither for a leaf nor for a leaf's view, so they take over a view's history
// alone.
Tensors writable(const Tensors& leaves) {
  Tensors inner;
  for (const torch::Tensor& leaf : leaves) {
    inner.push_back(leaf.defined() ? leaf.detach() : leaf);
    if (leaf.defined() && leaf.requires_grad())
      torch::autograd::impl::set_gradient_edge(
          inner.back(), torch::autograd::impl::gradient_edge(leaf.view_as(leaf)));
  }
  return inner;
}

Tensors flat(const LayersWeights& weights) {
  Tensors all;
  for (const Tensors& layer : weights) all.insert(all.end(), layer.begin(), layer.end());
  return all;
}

Tensors detached(const Tensors& outputs) {
  Tensors plain;
  for (const torch::Tensor& output : outputs) {
    // The receiver is to know that a gradient is wanted back.
    plain.push_back(output.defined() ? output.detach().requires_grad_(output.requires_grad())
                                     : output);
  }
  return plain;
}

}  // namespace

Stage::Stage(int index,
             std::vector<std::unique_ptr<Layer>> layers,
             LayersWeights weights,
             Recompute recompute)
    : index_(index),
      layers_(std::move(layers)),
      weights_(std::move(weights)),
      recompute_(recompute) {
  assert(layers_.size() == weights_.newest().size());
  for (const auto& layer : layers_) foreign_ = foreign_ || layer->is_foreign();
  for (const torch::Tensor& weight : flat(weights_.newest())) device_ = weight.device().type();
}

Tensors Stage::state() const {
  Tensors all;
  for (const auto& layer : layers_)
    for (const torch::Tensor& tensor : layer->state()) all.push_back(tensor);
  return all;
}

void Stage::set_watch(FiniteWatch* watch, int first_layer) {
  watch_ = watch;
  first_layer_ = first_layer;
}

void Stage::watch_weight_gradients(int microbatch) {
  if (watch_ == nullptr) return;
  for (std::size_t i = 0; i < layers_.size(); ++i)
    watch_->weight_gradients(first_layer_ + static_cast<int>(i), microbatch, weights_.newest()[i]);
}

void Stage::forget() {
  saved_.clear();
  deferred_.clear();
  weight_gradients_.take();
}

Tensors Stage::run(const Tensors& inputs,
                   const Context& context,
                   const LayersWeights& weights,
                   int version) {
  // One number for each state that the weights have been in: by the times they were given, the step
  // and the updates within it.
  constexpr std::int64_t kVersions = 1 << 20, kSteps = std::int64_t{1} << 34;
  StageContext stage{.version = (weights_given_ * kSteps + context.step) * kVersions + version + 1,
                     .recompute_attention = recompute_ == Recompute::Attention,
                     .weight_gradients = &weight_gradients_};
  Tensors values = foreign_ && context.training ? writable(inputs) : inputs;
  const Autocast autocast(device_, context.precision);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    stage.weights = weights[i];
    const int layer = first_layer_ + static_cast<int>(i);
    if (watch_ != nullptr) watch_->input_gradients(layer, context.microbatch, values);
    values = layers_[i]->forward(values, context, stage);
    if (watch_ != nullptr) watch_->outputs(layer, context.microbatch, values);
  }
  return values;
}

Stage::Saved Stage::save(const Tensors& inputs, const Tensors& outputs, double backward_scale) {
  Saved saved;
  saved.inputs = inputs;
  for (const torch::Tensor& output : outputs) {
    if (output.defined() && output.requires_grad()) {
      // The edge keeps the graph alive, but not the output itself: that is the receiver's.
      saved.outputs.emplace_back(torch::autograd::impl::gradient_edge(output));
      saved.seed.push_back(output.dim() == 0 ? torch::full_like(output, backward_scale)
                                             : torch::Tensor());
    } else {
      saved.outputs.emplace_back(std::nullopt);
      saved.seed.emplace_back();
    }
  }
  return saved;
}

Tensors Stage::forward(int microbatch, const Tensors& inputs, const Context& context, int version) {
  if (version >= 0) weights_.drop_before(version);
  const LayersWeights& weights = version < 0 ? weights_.newest() : weights_.version(version);
  if (!context.training) {
    const torch::NoGradGuard no_grad;
    return run(inputs, context, weights, version);
  }
  check(!saved_.contains(microbatch), "stage ", index_, " is given microbatch ", microbatch,
        " twice");
  const Tensors leaves = as_leaves(inputs);
  if (recompute_ == Recompute::All)
    return forward_to_recompute(microbatch, leaves, context, weights, version);
  const Tensors outputs = run(leaves, context, weights, version);
  saved_.emplace(microbatch, save(leaves, outputs, context.backward_scale));
  return detached(outputs);
}

Tensors Stage::forward_to_recompute(int microbatch,
                                    const Tensors& inputs,
                                    const Context& context,
                                    const LayersWeights& weights,
                                    int version) {
  Tensors outputs;
  std::optional<Beginning> beginning;
  if (foreign_) {
    // With a graph, which is dropped: a module may ask for it, and kernels are chosen by it.
    beginning.emplace(index_, inputs, flat(weights), state());
    outputs = detached(run(inputs, context, weights, version));
  } else {
    beginning.emplace(index_, inputs, flat(weights));
    const torch::NoGradGuard no_grad;
    outputs = run(inputs, context, weights, version);
    // What the graph would have said: floating outputs want a gradient where anything before them
    // is trained.
    for (torch::Tensor& output : outputs)
      if (output.defined() && output.is_floating_point()) output.requires_grad_(true);
  }
  beginning->settle(outputs);
  saved_.emplace(microbatch, Saved{.beginning = std::move(beginning),
                                   .weights = weights,
                                   .context = context,
                                   .version = version});
  return outputs;
}

Tensors Stage::backward_through(Saved saved, const Tensors& output_gradients) {
  Contents state;
  std::optional<Swapped> as_then;  // also through the backward: the graph holds the state itself
  if (saved.beginning) {
    const Beginning beginning = *std::exchange(saved.beginning, {});
    beginning.check_unchanged();
    state = beginning.state();
    as_then.emplace(state);
    saved = save(beginning.inputs(),
                 run(beginning.inputs(), saved.context, saved.weights, saved.version),
                 saved.context.backward_scale);
  }
  torch::autograd::edge_list roots;
  torch::autograd::variable_list gradients;
  for (std::size_t i = 0; i < saved.outputs.size(); ++i) {
    if (!saved.outputs[i]) continue;
    const torch::Tensor& gradient = output_gradients.empty() ? saved.seed[i] : output_gradients[i];
    if (!gradient.defined()) continue;
    roots.push_back(*saved.outputs[i]);
    gradients.push_back(gradient);
  }
  saved.outputs.clear();
  if (roots.empty()) return Tensors(saved.inputs.size());
  if (foreign_ && weight_gradients_.deferring())
    return backward_to_inputs(saved, state, roots, gradients);
  torch::autograd::Engine::get_default_engine().execute(
      roots, gradients, /*keep_graph=*/false, /*create_graph=*/false, /*accumulate_grad=*/true);
  Tensors input_gradients;
  for (const torch::Tensor& input : saved.inputs)
    input_gradients.push_back(input.defined() && input.requires_grad() ? input.grad()
                                                                       : torch::Tensor());
  return input_gradients;
}

// Autograd gives the weights' gradients in a second walk, put off.
Tensors Stage::backward_to_inputs(const Saved& saved,
                                  const Contents& state,
                                  const torch::autograd::edge_list& roots,
                                  const torch::autograd::variable_list& gradients) {
  auto& engine = torch::autograd::Engine::get_default_engine();
  torch::autograd::edge_list to_inputs, to_weights;
  for (const torch::Tensor& input : saved.inputs)
    if (input.defined() && input.requires_grad())
      to_inputs.push_back(torch::autograd::impl::gradient_edge(input));
  for (const torch::Tensor& weight : flat(weights_.newest()))
    if (weight.requires_grad()) to_weights.push_back(torch::autograd::impl::gradient_edge(weight));
  torch::autograd::variable_list found;
  if (!to_inputs.empty())
    found = engine.execute(roots, gradients, /*keep_graph=*/true, /*create_graph=*/false,
                           /*accumulate_grad=*/false, to_inputs);
  if (!to_weights.empty())
    weight_gradients_.add([roots, gradients, to_weights, state] {
      const Swapped as_then(state);
      torch::autograd::Engine::get_default_engine().execute(roots, gradients, /*keep_graph=*/false,
                                                            /*create_graph=*/false,
                                                            /*accumulate_grad=*/true, to_weights);
    });
  Tensors input_gradients;
  std::size_t next = 0;
  for (const torch::Tensor& input : saved.inputs)
    input_gradients.push_back(input.defined() && input.requires_grad() ? found[next++]
                                                                       : torch::Tensor());
  return input_gradients;
}

Tensors Stage::backward(int microbatch, const Tensors& output_gradients) {
  auto saved = saved_.extract(microbatch);
  check(!saved.empty(), "stage ", index_, " has no forward of microbatch ", microbatch,
        " to go back through");
  weight_gradients_.defer(false);
  Tensors input_gradients = backward_through(std::move(saved.mapped()), output_gradients);
  watch_weight_gradients(microbatch);
  return input_gradients;
}

Tensors Stage::backward_input(int microbatch, const Tensors& output_gradients) {
  auto saved = saved_.extract(microbatch);
  check(!saved.empty(), "stage ", index_, " has no forward of microbatch ", microbatch,
        " to go back through");
  weight_gradients_.defer(true);
  Tensors input_gradients = backward_through(std::move(saved.mapped()), output_gradients);
  weight_gradients_.defer(false);
  deferred_.emplace(microbatch, weight_gradients_.take());
  watch_weight_gradients(microbatch);  // not all are put off
  return input_gradients;
}

void Stage::backward_weight(int microbatch) {
  auto deferred = deferred_.extract(microbatch);
  check(!deferred.empty(), "stage ", index_, " has no weight gradients of microbatch ", microbatch,
        " put off");
  for (const WeightGradients::Work& work : deferred.mapped()) work();
  watch_weight_gradients(microbatch);
}

}  // namespace headrace
