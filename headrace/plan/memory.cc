#include "headrace/plan/memory.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/plan/logits.h"
#include "headrace/schedule/versions.h"
#include "headrace/simulate/simulate.h"

namespace headrace {
namespace {

constexpr double kFloat = 4;
// Of the size of what stages pass on: received early, being sent, and a gradient on its way.
constexpr double kMessages = 3;

class Prediction {
 public:
  Prediction(const Plan& plan, const MemoryOptions& options) : plan_(plan), options_(options) {}

  // From a microbatch's forward to its backward.
  double held(int stage) const {
    if (recompute(stage) == Recompute::All) return input(stage);
    return sum(stage, [&](const LayerInfo& layer) { return held_by(layer, recompute(stage)); });
  }

  // Besides, while its backward runs. Layers let go of what they hold one after the other, the last
  // one first.
  double in_passing(int stage) const {
    double most = 0, freed = 0;
    for (int i = plan_.end(stage) - 1; i >= first(stage); --i) {
      const LayerInfo& layer = spec(i);
      double needed = options_.rows * kFloat * layer.memory.working;
      if (options_.product_bytes != kFloat)
        needed += options_.rows * options_.product_bytes * layer.memory.copies;
      needed += logits_in_passing(layer);
      if (recompute(stage) == Recompute::Attention)
        needed += held_by(layer, Recompute::None) - held_by(layer, Recompute::Attention);
      most = std::max(most, needed - freed);
      freed += held_by(layer, recompute(stage));
    }
    if (recompute(stage) != Recompute::All) return most;
    return most - input(stage) +
           sum(stage, [&](const LayerInfo& layer) { return held_by(layer, Recompute::None); });
  }

  double messages(int stage) const { return kMessages * std::max(input(stage), output(stage)); }

  // Weights, their gradients, the optimizer's state, and casts of matrices.
  double kept(int stage, double replicas) const {
    const double shards = options_.sharded ? replicas : 1;
    return sum(stage, [&](const LayerInfo& layer) {
      double bytes = 0;
      for (const ParameterSpec& parameter : layer.parameters) {
        const double elements = elements_of(parameter);
        bytes += elements * (2 * kFloat + options_.state_bytes / shards);
        if (options_.checkpoints) bytes += elements * (kFloat + options_.state_bytes) / replicas;
        if (options_.product_bytes != kFloat && parameter.shape.size() > 1 && layer.cost.flops > 0)
          bytes += elements * options_.product_bytes;
      }
      return bytes;
    });
  }

  double weights(int stage) const {
    return sum(stage, [](const LayerInfo& layer) {
      double elements = 0;
      for (const ParameterSpec& parameter : layer.parameters) elements += elements_of(parameter);
      return kFloat * elements;
    });
  }

 private:
  // Of any sizes, even those that no integer counts.
  static double elements_of(const ParameterSpec& parameter) {
    return std::accumulate(
        parameter.shape.begin(), parameter.shape.end(), 1.0,
        [](double product, std::int64_t size) { return product * static_cast<double>(size); });
  }
  int first(int stage) const { return plan_.starts[static_cast<std::size_t>(stage)]; }
  const LayerInfo& spec(int i) const { return plan_.layers[static_cast<std::size_t>(i)]; }
  Recompute recompute(int stage) const { return plan_.recompute[static_cast<std::size_t>(stage)]; }
  double input(int stage) const {
    return stage == 0 ? 0 : options_.rows * spec(first(stage) - 1).cost.boundary_bytes;
  }
  double output(int stage) const {
    return options_.rows * spec(plan_.end(stage) - 1).cost.boundary_bytes;
  }
  double held_by(const LayerInfo& layer, Recompute recompute) const {
    const LayerMemory& memory = layer.memory;
    if (recompute == Recompute::Attention && memory.is_attention)
      return options_.rows * layer.cost.boundary_bytes;  // its input is as large as its output
    return options_.rows * (kFloat * memory.floats + options_.product_bytes * memory.products) +
           (logits_are_whole(memory) ? kFloat * logits(memory) : 0);
  }
  // Numbers of a microbatch's.
  double logits(const LayerMemory& memory) const {
    return options_.rows * static_cast<double>(memory.logit_tokens) *
           static_cast<double>(memory.vocabulary);
  }
  double logits_at_once(const LayerMemory& memory) const {
    if (memory.vocabulary == 0) return 0;
    const double tokens = options_.rows * static_cast<double>(memory.logit_tokens);
    constexpr double kCountable = 1e18;  // of any sizes, even those that no integer counts
    const std::int64_t rows = logit_rows_at_once(
        static_cast<std::int64_t>(std::min(tokens, kCountable)), memory.vocabulary);
    return static_cast<double>(rows) * static_cast<double>(memory.vocabulary);
  }
  bool logits_are_whole(const LayerMemory& memory) const {
    return logits_at_once(memory) >= logits(memory);
  }
  // A chunk and its exponentials; of whole logits, their error in the type of the products.
  double logits_in_passing(const LayerInfo& layer) const {
    if (!logits_are_whole(layer.memory)) return 2 * kFloat * logits_at_once(layer.memory);
    return options_.product_bytes != kFloat ? options_.product_bytes * logits(layer.memory) : 0;
  }
  template <class F>
  double sum(int stage, const F& of) const {
    double total = 0;
    for (int i = first(stage); i < plan_.end(stage); ++i) total += of(spec(i));
    return total;
  }

  const Plan& plan_;
  const MemoryOptions& options_;
};

}  // namespace

double held_activations(const Plan& plan, int stage, const MemoryOptions& options) {
  return Prediction(plan, options).held(stage);
}

void require_memory_for_weights(const Plan& plan) {
  const Prediction prediction(plan, {});
  for (int rank = 0; rank < plan.placement.ranks; ++rank) {
    double weights = 0;
    for (const int stage : plan.placement.stages_of(rank)) weights += prediction.weights(stage);
    require_memory(2 * weights, cat("rank ", rank, " holds ", weights / kFloat,
                                    " parameters, and a gradient of each"));
  }
}

std::vector<double> predict_memory(const Plan& plan,
                                   const Schedule& schedule,
                                   const MemoryOptions& options) {
  const Prediction prediction(plan, options);
  Costs costs;
  costs.memory_forward.clear();
  costs.memory_backward_weight.clear();
  for (int s = 0; s < plan.stages(); ++s) {
    costs.memory_forward.push_back(prediction.held(s));
    costs.memory_backward_weight.push_back(-prediction.held(s));
  }
  std::vector<double> bytes = simulate_totals(schedule, costs).peak_memory;
  const std::vector<StageVersions> versions =
      is_asynchronous(schedule) ? weight_versions(schedule) : std::vector<StageVersions>();
  for (int rank = 0; rank < plan.placement.ranks; ++rank) {
    double most_in_passing = 0;
    double& total = bytes[static_cast<std::size_t>(rank)];
    total += options.batch_bytes;
    for (const int s : plan.placement.stages_of(rank)) {
      most_in_passing = std::max(most_in_passing, prediction.in_passing(s));
      total += prediction.kept(s, plan.placement.replicas(s)) + prediction.messages(s);
      if (!versions.empty())
        total += (versions[static_cast<std::size_t>(s)].stored - 1) * prediction.weights(s);
    }
    total += most_in_passing;
  }
  return bytes;
}

}  // namespace headrace
