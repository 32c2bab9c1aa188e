// The parameters of this rank and their gradients, as the whole model sees them.
//
// A parameter may have several owners: it stands in several layers (tied embeddings), or its stage
// has replicas. Each owner has a gradient of its own. They are added in the order of the layers,
// and for each layer in the order of its stage's replicas, wherever they are, so that every owner
// gets the same bits; the parameter counts once in the norm. The norm over all stages adds the
// parameters' squared norms in the model's order, in double precision: it does not depend on the
// split.
//
// Owners on different ranks: each parameter has a home, the one of them that adds its gradients up
// and sends the sum back; the parameters of a group of ranks are spread over these by size. With
// `sharded`, the sums stay at home, where the optimizer's state lies and the update is made, and
// the new values are sent instead (ZeRO stage 1: Rajbhandari et al., ZeRO, SC 2020).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "headrace/model/layer.h"
#include "headrace/plan/plan.h"
#include "headrace/runtime/stage.h"
#include "headrace/transport/transport.h"

namespace headrace {

struct OwnedParameter {
  std::string name;
  torch::Tensor value;  // updated in place; all owners on this rank share its storage
  // Of the step, after combine(): the sum over owners. With `sharded` undefined where the home is
  // another rank.
  torch::Tensor gradient;
  Tensors owners;          // this rank's leaves, in the order of the layers
  std::vector<int> ranks;  // [owner of the whole model, in the order of the sum] → rank
  std::size_t order = 0;   // place in the model's list of distinct parameters
};

class Gradients {
 public:
  // Gives every leaf of `stages`, this rank's, a zero gradient to add to and makes owners of one
  // parameter on this rank share its storage.
  Gradients(Transport& transport,
            const Plan& plan,
            const std::vector<Stage*>& stages,
            bool sharded = false);

  std::vector<OwnedParameter>& parameters() { return parameters_; }
  // Those whose update is made on this rank: all, or with `sharded` those at home here.
  std::vector<OwnedParameter*> to_update();

  // Of asynchronous schedules, where no parameter may have several owners: those of a stage, with
  // the gradient of their next update. After the stage's next_version().
  bool any_shared() const;
  std::vector<OwnedParameter*> of_stage(Stage& stage);

  void zero();
  // A stage's last backward of the step is done: what its owners share may leave.
  void stage_done(int stage, std::int64_t step);
  // Ends the sums over owners.
  void combine(std::int64_t step);
  // After the update, with `sharded`: sends the new values to their other owners.
  void share_values(std::int64_t step);
  // Squared norms of the parameters counted on this rank, in the model's order.
  std::vector<double> squared_norms();
  // The norm over all stages from every rank's squared_norms(), the same on every rank. `worst`
  // gets the name of the first parameter whose norm is not finite, if there is one.
  double total_norm(const std::vector<std::vector<double>>& by_rank, std::string* worst) const;
  // Scales every gradient.
  void scale(double factor);

 private:
  // Parameters with the same owners on several ranks: they travel together.
  struct Group {
    int number = 0;                                              // in the whole model
    std::vector<int> stages;                                     // of the owners, ascending
    std::vector<int> ranks;                                      // each once
    std::vector<std::size_t> members;                            // places in the model's list
    std::map<int, std::unique_ptr<Arrival>> gradients, returns;  // by rank
  };

  void make_plan(const Plan& plan);
  void adopt(const std::vector<Stage*>& stages);
  OwnedParameter& owned(std::size_t order) { return parameters_[place_.at(order)]; }
  std::vector<OwnedParameter*> at_home(const Group& group, int rank);
  Label label(Purpose purpose, const Group& group, std::int64_t step) const;
  void start_ready(std::int64_t step, bool all);
  void start(Group& group, std::int64_t step);
  void add_up(Group& group, std::int64_t step);
  void take_back(Group& group);

  Transport& transport_;
  const bool sharded_;
  std::vector<std::string> names_;        // of the whole model's parameters, in order
  std::vector<std::vector<int>> owners_;  // of each, as OwnedParameter::ranks
  std::vector<int> home_;                 // of each
  std::vector<OwnedParameter> parameters_;
  std::map<std::size_t, std::size_t> place_;  // in parameters_, by order
  // Of this rank; the last stages' first, as their backwards end first. The same order on every
  // rank, so that messages between two of them have one.
  std::vector<Group> groups_;
  std::set<int> held_;     // this rank's stages
  std::set<int> done_;     // those with no backward left in this step
  std::size_t begun_ = 0;  // groups on their way
};

}  // namespace headrace
