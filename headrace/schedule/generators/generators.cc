#include "headrace/schedule/generators/generators.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/schedule/action.h"
#include "headrace/schedule/generators/construct.h"
#include "headrace/schedule/schedule.h"

namespace headrace {
namespace {

// Nothing multiplies more than 24 of either, or both of them by more than 2: that stays an int.
constexpr std::int64_t kMostOfEither = std::int64_t{1} << 26;
constexpr std::int64_t kMostOfBoth = (std::int64_t{1} << 30) - 1;

std::string counted(double count) {
  return count < 9e18 ? count_text(static_cast<std::int64_t>(count)) : cat(count);
}

// In doubles, as the products of what is asked for may be beyond all integers.
double stages_of(const GeneratorOptions& options) {
  return static_cast<double>(options.ranks) * std::max(1, options.stages_per_rank);
}

double units_of(const GeneratorOptions& options) {
  return static_cast<double>(options.microbatches) * std::max(1, options.sequence_splits);
}

std::string sizes_text(const std::string& name, const GeneratorOptions& options) {
  std::string sizes = cat(name, " with ranks ", options.ranks);
  if (options.stages_per_rank > 1) sizes += cat(", stages_per_rank ", options.stages_per_rank);
  sizes += cat(", microbatches ", options.microbatches);
  if (options.sequence_splits > 1) sizes += cat(", sequence_splits ", options.sequence_splits);
  return sizes;
}

double bytes_of_lists(double stages) {
  return stages * sizeof(std::vector<int>) * 2;  // of each rank, and of the owners of each stage
}

void require_memory_for_actions(const std::string& name, const GeneratorOptions& options) {
  const double stages = stages_of(options);
  const double actions = 2 * stages * units_of(options);  // a forward and a backward, at least
  require_memory(actions * sizeof(Action) + bytes_of_lists(stages),
                 cat(sizes_text(name, options), " has at least ", counted(actions), " actions of ",
                     sizeof(Action), " bytes on ", counted(stages), " stages"));
}

// Why the stages cannot be placed, and the rest left open.
Refusal refuse_stages(const Generator& generator, const GeneratorOptions& options) {
  const std::string& name = generator.name;
  const int own = generator.stages_per_rank;
  const int wanted = options.stages_per_rank;
  if (options.ranks < 1)
    return cat(name, " needs ranks >= 1, given ", options.ranks, "; the nearest that works is 1");
  if (wanted < 0)
    return cat(name, " needs stages_per_rank >= 1, given ", wanted,
               "; the nearest that works is 1");
  if (wanted != 0 && wanted != own && !generator.any_stages)
    return cat(name, " has ", own, own == 1 ? " stage" : " stages", " a rank, not ", wanted,
               "; leave stages_per_rank out or set it to ", own);
  const double stages = static_cast<double>(options.ranks) * generator.stages_on_rank(options);
  if (stages > kMostOfEither)
    return cat(name, " on ", counted(stages), " stages is too large: there are at most ",
               count_text(kMostOfEither));
  if (generator.placement_rule == nullptr) return std::nullopt;
  return generator.placement_rule(options);
}

GeneratorOptions filled_in(const Generator& generator, const GeneratorOptions& options) {
  GeneratorOptions all = options;
  all.stages_per_rank = generator.stages_on_rank(options);
  return all;
}

}  // namespace

int Generator::stages_on_rank(const GeneratorOptions& options) const {
  return options.stages_per_rank == 0 ? stages_per_rank : options.stages_per_rank;
}

Placement Generator::place(const GeneratorOptions& options) const {
  assert(placement != nullptr);
  const double stages = stages_of(options);
  require_memory(bytes_of_lists(stages), cat(name, " on ", counted(stages), " stages"));
  const Refusal refusal = refuse_stages(*this, options);
  check_usage(!refusal, refusal.value_or(""));
  return placement(filled_in(*this, options));
}

Refusal Generator::fits(const GeneratorOptions& options) const {
  if (Refusal refusal = refuse_stages(*this, options)) return refusal;
  if (options.microbatches < 1)
    return cat(name, " needs microbatches >= 1, given ", options.microbatches,
               "; the nearest that works is 1");
  const GeneratorOptions all = filled_in(*this, options);
  const double units = units_of(all);
  if (units > kMostOfEither || stages_of(all) * units > kMostOfBoth)
    return cat(sizes_text(name, options), " is too large: a schedule has at most ",
               count_text(kMostOfEither), " stages, as many microbatches, and ",
               count_text(kMostOfBoth), " of both multiplied");
  if (rule == nullptr) return std::nullopt;
  return rule(all);
}

Made Generator::try_make(const GeneratorOptions& options) const {
  require_memory_for_actions(name, options);
  if (Refusal refusal = fits(options)) return {.schedule = {}, .refusal = std::move(*refusal)};
  return naming_memory(cat("making the schedule ", name),
                       [&] { return order(filled_in(*this, options)); });
}

Schedule Generator::make(const GeneratorOptions& options) const {
  Made made = try_make(options);
  check_usage(made.schedule.has_value(), made.refusal);
  return std::move(*made.schedule);
}

const Generator& find_generator(const std::vector<Generator>& among, std::string_view name) {
  std::vector<std::string> names;
  for (const Generator& generator : among) {
    if (generator.name == name) return generator;
    names.push_back(generator.name);
  }
  const std::string near = nearest(name, names);
  throw UsageError(cat("no schedule is called '", name, "'; ",
                       near.empty() ? std::string() : cat("did you mean '", near, "'? "),
                       "known are ", join_text(names, ", ")));
}

Schedule generate(std::string_view name, const GeneratorOptions& options) {
  return find_generator(generators(), name).make(options);
}

}  // namespace headrace
