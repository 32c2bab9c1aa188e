// The sums of this rank's gradients over all owners of each parameter, as the whole model sees them.
//
//   gradients.zero();
//   …                                  // backwards add to the leaves; gradients.stage_done(s, step)
//   gradients.combine(step);
//   gradients.sum(i);                  // of parameter i of the rank's Weights
//
// Each owner has a gradient of its own. They are added in the order of Ownership, wherever they are,
// so that every owner gets the same bits; the parameter counts once in the norm. The norm over all
// stages adds the parameters' squared norms in the model's order, in double precision: it does not
// depend on the split.
//
// Of owners on different ranks the parameter's home adds the gradients up and sends the sum back.
// With `sharded`, the sums stay at home, where the optimizer's state lies and the update is made, and
// the new values are sent instead (ZeRO stage 1: Rajbhandari et al., ZeRO, SC 2020).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "headrace/runtime/ownership.h"
#include "headrace/runtime/weights.h"
#include "headrace/transport/transport.h"

namespace headrace {

class Gradients {
 public:
  // What is referred to must outlive this; `stages` are the numbers of the rank's.
  Gradients(Transport& transport,
            const Ownership& ownership,
            Weights& weights,
            const std::vector<int>& stages,
            bool sharded);

  // Of parameter i of the weights, after combine(); undefined where, with `sharded`, the home is
  // another rank.
  const torch::Tensor& sum(std::size_t i) const { return sums_[i]; }
  // The parameters whose update is made on this rank: all, or with `sharded` those at home here.
  std::vector<std::size_t> to_update() const;

  void zero();
  // A stage's last backward of the step is done: what its owners share may leave.
  void stage_done(int stage, std::int64_t step);
  // Ends the sums over owners.
  void combine(std::int64_t step);
  // After the update, with `sharded`: sends the new values to their other owners.
  void share_values(std::int64_t step);
  // Norms of the parameters at home on this rank, in the model's order (0-dim, where the gradients are).
  Tensors norms() const;
  // The norm over all stages from the squares of every rank's norms(), the same on every rank. `worst`
  // gets the name of the first parameter whose norm is not finite, if there is one.
  double total_norm(const std::vector<std::vector<double>>& by_rank, std::string* worst) const;
  // Scales every gradient.
  void scale(double factor);

 private:
  // A group of parameters that travel together, on its way.
  struct Group {
    int number;                                                  // in the ownership's
    std::map<int, std::unique_ptr<Arrival>> gradients, returns;  // by rank
  };

  const Ownership::Group& of(const Group& group) const;
  // The group's parameters, as indices of the weights, that have their home on `rank`.
  std::vector<std::size_t> at_home(const Group& group, int rank) const;
  Label label(Purpose purpose, const Group& group, std::int64_t step) const;
  void start_ready(std::int64_t step, bool all);
  void start(Group& group, std::int64_t step);
  void add_up(Group& group, std::int64_t step);
  void take_back(Group& group);
  void set_sum(std::size_t i, const torch::Tensor& sum);

  Transport& transport_;
  const Ownership& ownership_;
  Weights& weights_;
  const std::set<int> stages_;
  const bool sharded_;
  Tensors sums_;
  // Of this rank; the last stages' first, as their backwards end first. The same order on every
  // rank, so that messages between two of them have one.
  std::vector<Group> groups_;
  std::set<int> done_;     // stages with no backward left in this step
  std::size_t begun_ = 0;  // groups on their way
};

}  // namespace headrace
