#include "headrace/schedule/generators.h"

#include <string>
#include <string_view>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

// For schedules whose only rule is one stage a rank.
void require_one_stage(std::string_view name, const GeneratorOptions& options) {
  check_usage(options.stages_per_rank <= 1, name, " puts one stage on a rank; stages_per_rank is ",
              options.stages_per_rank);
}

}  // namespace

const std::vector<Generator>& generators() {
  static const std::vector<Generator> kGenerators = {
      {"gpipe", "all forwards, then all backwards (Huang et al. 2019)",
       "any ranks, any microbatches",
       [](const GeneratorOptions& options) {
         require_one_stage("gpipe", options);
         return gpipe(options.ranks, options.microbatches);
       }},
      {"1f1b", "one forward, one backward (PipeDream-Flush, DAPPLE)", "any ranks, any microbatches",
       [](const GeneratorOptions& options) {
         require_one_stage("1f1b", options);
         return one_f_one_b(options.ranks, options.microbatches);
       }},
  };
  return kGenerators;
}

Schedule generate(std::string_view name, const GeneratorOptions& options) {
  std::vector<std::string> names;
  for (const Generator& generator : generators()) {
    if (generator.name == name) return generator.make(options);
    names.push_back(generator.name);
  }
  const std::string near = nearest(name, names);
  throw UsageError(cat("no schedule is called '", name, "'; ",
                       near.empty() ? std::string() : cat("did you mean '", near, "'? "),
                       "known are ", join_text(names, ", ")));
}

}  // namespace headrace
