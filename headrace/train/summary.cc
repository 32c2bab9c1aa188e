#include "headrace/train/summary.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <torch/version.h>

#include "headrace/base/table.h"
#include "headrace/base/text.h"
#include "headrace/schedule/versions.h"
#include "headrace/train/predicted_memory.h"
#include "headrace/train/trainable.h"

namespace headrace {
namespace {

// "embedding … blocks.2.attention"
std::string layer_range(const Plan& plan, int stage) {
  const auto& first =
      plan.layers[static_cast<std::size_t>(plan.starts[static_cast<std::size_t>(stage)])];
  const auto& last = plan.layers[static_cast<std::size_t>(plan.end(stage)) - 1];
  return first.name == last.name ? first.name : first.name + " … " + last.name;
}

// A shared parameter counts on the first stage that holds it, so that the column adds up to the
// model.
std::vector<std::int64_t> stage_parameters(const Plan& plan) {
  std::vector<std::int64_t> counts;
  std::set<std::string> seen;
  for (int s = 0; s < plan.stages(); ++s) {
    counts.push_back(0);
    for (int i = plan.starts[static_cast<std::size_t>(s)]; i < plan.end(s); ++i)
      for (const ParameterSpec& spec : plan.layers[static_cast<std::size_t>(i)].parameters)
        if (seen.insert(spec.name).second) counts.back() += spec.elements();
  }
  return counts;
}

const char* recompute_text(Recompute recompute) {
  return recompute == Recompute::All         ? "all"
         : recompute == Recompute::Attention ? "attention"
                                             : "none";
}

// Of an asynchronous schedule: what its weight versions take.
std::string versions_text(const Plan& plan, int microbatches) {
  const Schedule schedule = training_schedule(plan, microbatches);
  if (!is_asynchronous(schedule)) return "";
  std::string text;
  const std::vector<StageVersions> stages = weight_versions(schedule);
  const std::vector<std::int64_t> parameters = stage_parameters(plan);
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const auto bytes = static_cast<double>(parameters[s]) * 4 * stages[s].stored;
    text += cat("# asynchronous: stage ", s, " keeps up to ", stages[s].stored,
                " versions of its weights, ", bytes_text(bytes), "\n");
  }
  return text;
}

// Of `auto`: what the search is compared with, as nobody has measured anything yet.
std::string found_text(const Plan& plan) {
  if (!plan.found) return "";
  const Found& found = *plan.found;
  std::string text = "# schedule auto: the best found by the layers' estimated costs";
  if (!found.fixed.empty())
    text +=
        cat("; on paper a step takes ", fixed_text(100 * found.makespan / found.fixed_makespan, 1),
            "% of its time with ", found.fixed, ", the best of those with a name");
  return text + "\n";
}

}  // namespace

double flops_per_token(const Plan& plan, int context) {
  double forward = 0;
  for (const LayerInfo& layer : plan.layers) forward += layer.cost.flops;
  return 3 * forward / context;  // a backward takes twice a forward
}

std::string opening_text(const Config& config,
                         const Plan& plan,
                         const Samples& samples,
                         const std::string& devices) {
  const TrainConfig& train = config.train;
  std::ostringstream text;
  text << "# headrace " << HEADRACE_VERSION << ", libtorch " << TORCH_VERSION
       << "\n# device: " << devices << "\n# pipeline: " << plan.placement.ranks << " ranks × "
       << config.pipeline.threads << " threads, schedule " << plan.source.name << ", "
       << train.microbatches << " microbatches of " << train.microbatch << " sequences of "
       << config.model.transformer.context
       << " tokens: " << count_text(train.batch * config.model.transformer.context)
       << " tokens a step\n# data: " << samples.file().path().string() << ", "
       << samples.fingerprint() << "; " << count_text(samples.training_samples())
       << " sequences for training, " << count_text(samples.evaluation_samples())
       << " an evaluation\n# model: " << count_text(parameter_count(plan.layers)) << " parameters, "
       << fixed_text(flops_per_token(plan, config.model.transformer.context) / 1e6, 1)
       << " MFLOP a token\n# training: " << count_text(samples.steps()) << " steps of "
       << config.optimizer.kind << ", learning rate " << config.optimizer.learning_rate << ", seed "
       << train.seed << ", " << train.precision << "\n";
  if (plan.placement.ranks > train.microbatches) {
    text << "# note: fewer microbatches (" << train.microbatches << ") than ranks ("
         << plan.placement.ranks
         << ") leave ranks idle; raise train.microbatches if memory allows\n";
  }
  text << found_text(plan) << versions_text(plan, static_cast<int>(train.microbatches));
  Table table({{"stage"},
               {"rank"},
               {"layers"},
               {"parameters"},
               {"share %", 1},
               {"recompute"},
               {"predicted memory"}});
  const std::vector<double> predicted = predicted_memory(config, plan);
  const std::vector<std::int64_t> parameters = stage_parameters(plan);
  for (int s = 0; s < plan.stages(); ++s) {
    const auto at = static_cast<std::size_t>(s);
    const std::vector<int>& owners = plan.placement.owners[at];
    table.add({std::int64_t{s}, std::vector<double>(owners.begin(), owners.end()),
               layer_range(plan, s), parameters[at], 100 * plan.share[at],
               recompute_text(plan.recompute[at]),
               bytes_text(predicted[static_cast<std::size_t>(owners.front())])});
  }
  text << table.print(Format::Text);
  return text.str();
}

std::string closing_table(const Config& config,
                          const Plan& plan,
                          const std::vector<StageSeconds>& times) {
  Table table({{"stage"},
               {"rank"},
               {"layers"},
               {"parameters"},
               {"forward s", 2},
               {"backward s", 2},
               {"transfer s", 2},
               {"waiting s", 2},
               {"reduce s", 2},
               {"update s", 2},
               {"bubble %", 1},
               {"peak memory"},
               {"predicted"}});
  const std::vector<double> predicted = predicted_memory(config, plan);
  const std::vector<std::int64_t> parameters = stage_parameters(plan);
  // A rank's bubble is one for all of its stages: it computes for one at a time.
  std::map<int, double> compute_of_rank;
  for (const StageSeconds& t : times) compute_of_rank[t.rank] += t.forward + t.backward;
  for (const StageSeconds& t : times) {
    const double bubble = t.makespan > 0 ? 1 - compute_of_rank.at(t.rank) / t.makespan : 0;
    table.add({std::int64_t{t.stage}, std::int64_t{t.rank}, layer_range(plan, t.stage),
               parameters[static_cast<std::size_t>(t.stage)], t.forward, t.backward, t.transfer,
               t.waiting, t.reduce, t.update, 100 * std::max(0.0, bubble),
               bytes_text(static_cast<double>(t.peak_memory)),
               bytes_text(predicted[static_cast<std::size_t>(t.rank)])});
  }
  return table.print(Format::Text);
}

}  // namespace headrace
