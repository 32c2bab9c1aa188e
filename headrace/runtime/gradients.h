// The parameters of this rank and their gradients, as the whole model sees them.
//
// A shared parameter (one name in several layers) is one parameter: its owners' gradients are added
// in the order of the layers, wherever they are, so that every copy gets the same bits; it counts
// once in the norm. The norm over all stages adds the parameters' squared norms in the model's
// order, in double precision: it does not depend on the split.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "headrace/model/layer.h"
#include "headrace/runtime/stage.h"
#include "headrace/transport/transport.h"

namespace headrace {

struct OwnedParameter {
  std::string name;
  torch::Tensor value;     // updated in place; all owners on this rank share its storage
  torch::Tensor gradient;  // of the step, after combine(); the sum over owners
  Tensors owners;          // this rank's leaves, in the order of the layers
  std::vector<int> ranks;  // [owner of the whole model, in the order of the layers] → rank
  std::size_t order = 0;   // place in the model's list of distinct parameters
};

class Gradients {
 public:
  // `rank_of_layer[i]`: the rank that holds layer i. Gives every leaf of `stages` a zero gradient
  // to add to and makes owners of one parameter on this rank share its storage.
  Gradients(Transport& transport,
            const std::vector<LayerSpec>& model,
            const std::vector<int>& rank_of_layer,
            const std::vector<Stage*>& stages);

  std::vector<OwnedParameter>& parameters() { return parameters_; }

  void zero();
  // Adds shared gradients over their owners (exchanging them between ranks).
  void combine(std::int64_t step);
  // Squared norms of the parameters counted on this rank, in the model's order.
  std::vector<double> squared_norms();
  // The norm over all stages from every rank's squared_norms(), the same on every rank. `worst`
  // gets the name of the first parameter whose norm is not finite, if there is one.
  double total_norm(const std::vector<std::vector<double>>& by_rank, std::string* worst) const;
  // Scales every gradient.
  void scale(double factor);

 private:
  Transport& transport_;
  std::vector<OwnedParameter> parameters_;
  std::vector<std::string> names_;  // of the whole model, in order
  std::vector<int> counted_on_;     // for each of them, the rank that counts it: its first owner's
};

}  // namespace headrace
