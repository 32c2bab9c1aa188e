// The parameters of one rank by name, each once, though several of its layers may hold it.
//
//   for (std::size_t i = 0; i < weights.size(); ++i) norm(weights.value(i));
//   snapshot.weights.emplace(weights.name(i), weights.value(i).clone());
//
// The leaves that the layers compute with are the only tensors there are; what is asked for is
// looked up in them, so that it is the newest also where an asynchronous schedule has made new ones.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "headrace/runtime/ownership.h"
#include "headrace/runtime/stage.h"
#include "headrace/tensor/tensors.h"

namespace headrace {

class Weights {
 public:
  // `stages`, the rank's, must outlive this. Owners of one parameter get one storage, and every
  // leaf a zero gradient to add to.
  Weights(const Plan& plan,
          const Ownership& ownership,
          int rank,
          const std::vector<Stage*>& stages);

  // In the model's order.
  std::size_t size() const { return entries_.size(); }
  const std::string& name(std::size_t i) const { return entries_[i].name; }
  // The place in the model's list of parameters (Ownership::parameters).
  std::size_t order(std::size_t i) const { return entries_[i].order; }
  // The index of a place in the model's list; of a parameter that this rank owns.
  std::size_t index_of(std::size_t order) const;

  // Outside of autograd; writing into it changes the parameter for all owners on this rank.
  torch::Tensor value(std::size_t i) const;
  // Of the owners' leaves, in the order of the layers.
  Tensors gradients(std::size_t i) const;
  // The indices of a stage's.
  std::vector<std::size_t> of_stage(int stage) const;

  // Sets the gradients of all leaves to zero.
  void zero_gradients();

 private:
  struct Place {
    Stage* stage;
    std::size_t layer, parameter;
  };
  struct Entry {
    std::string name;
    std::size_t order;
    std::vector<Place> owners;
  };

  static const torch::Tensor& leaf(const Place& place);

  std::vector<Entry> entries_;
};

}  // namespace headrace
