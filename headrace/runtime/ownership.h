// Which ranks own which parameters of the model, and which of them is a parameter's home: plain data,
// the same on every rank.
//
//   const Ownership ownership = ownership_of(plan);
//   ownership.at_home(2);    // what rank 2 sums up, updates where the state is sharded, and saves
//
// A parameter may have several owners: it stands in several layers (tied embeddings), or its stage
// has replicas. Its home is one of them; the parameters that have the same owners on several ranks
// are a group, and are spread over these by size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "headrace/plan/plan.h"

namespace headrace {

struct Ownership {
  struct Parameter {
    std::string name;
    std::vector<std::int64_t> shape;
    // Ranks, one for each owner, in the order in which their gradients are added: that of the
    // layers, and for each layer that of its stage's replicas.
    std::vector<int> owners;
    int home = 0;

    // Whether a single rank has all owners, and it is this one.
    bool is_only_on(int rank) const;
  };
  // Parameters with the same owners on several ranks: they travel together.
  struct Group {
    std::vector<int> stages;           // of the owners, ascending
    std::vector<int> ranks;            // each once
    std::vector<std::size_t> members;  // places in `parameters`
  };

  std::vector<Parameter> parameters;  // of the whole model, in its order, each once
  std::vector<Group> groups;

  // Places in `parameters`, ascending.
  std::vector<std::size_t> owned_by(int rank) const;
  std::vector<std::size_t> at_home(int rank) const;
  bool any_shared() const;  // by several owners
};

Ownership ownership_of(const Plan& plan);

}  // namespace headrace
