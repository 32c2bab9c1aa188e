#include "headrace/pipe/module_plan.h"

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "headrace/base/error.h"

namespace headrace {
namespace {

std::string name_of(int module) {
  return cat("module ", module);
}

// By the number of parameters, and one, as none is for nothing.
std::vector<LayerInfo> describe(const torch::nn::Sequential& model) {
  std::vector<LayerInfo> layers;
  for (std::size_t i = 0; i < model->size(); ++i) {
    LayerInfo& layer = layers.emplace_back();
    layer.name = name_of(static_cast<int>(i));
    layer.cost.flops = 1;
    for (const torch::Tensor& parameter : model->ptr(i)->parameters())
      layer.cost.flops += static_cast<double>(parameter.numel());
  }
  return layers;
}

// The first module of each later stage.
std::vector<std::string> split_of(const std::vector<int>& balance, int modules) {
  std::vector<std::string> split;
  int sum = 0;
  for (const int of_stage : balance) {
    check_usage(of_stage >= 1, "Pipe: balance holds ", of_stage, "; each stage needs a module");
    if (sum > 0) split.push_back(name_of(sum));
    sum += of_stage;
  }
  check_usage(sum == modules || balance.empty(), "Pipe: balance has ", sum,
              " modules in all, and the model has ", modules);
  return split;
}

int ranks_of(const PipeOptions& options, int per_rank) {
  const int devices = static_cast<int>(options.devices.size());
  const int stages = static_cast<int>(options.balance.size());
  check_usage(devices > 0 || stages > 0,
              "Pipe: give balance (modules a stage) or devices (one a rank)");
  if (stages == 0) return devices;
  check_usage(stages % per_rank == 0, "Pipe: balance has ", stages, " stages, and schedule '",
              options.schedule, "' puts ", per_rank, " on each rank");
  check_usage(devices == 0 || devices == stages / per_rank, "Pipe: balance has ", stages,
              " stages, ", per_rank, " a rank, and there are ", devices, " devices");
  return stages / per_rank;
}

RecomputeWish recompute_of(const std::vector<int>& stages) {
  if (stages == std::vector<int>{-1}) return Recompute::All;
  return stages;
}

template <class Work>
auto as_of_pipe(Work&& work) {
  try {
    return work();
  } catch (const UsageError& error) {
    throw UsageError(cat("Pipe: ", error.what()));
  }
}

// A parameter's gradient and a buffer have one thread that writes to them.
void check_nothing_shared(const torch::nn::Sequential& model, const Plan& plan) {
  std::map<void*, int> owner;  // the first module that holds a tensor
  for (int index = 0; index < static_cast<int>(model->size()); ++index) {
    const int stage = plan.stage_of(index);
    const auto check_one = [&](const char* kind, const auto& named) {
      if (!named.value().defined()) return;
      const int first = owner.emplace(named.value().unsafeGetTensorImpl(), index).first->second;
      check_usage(plan.stage_of(first) == stage, "Pipe: module ", index, " of stage ", stage,
                  " shares ", kind, " ", named.key(), " with module ", first, " of stage ",
                  plan.stage_of(first), ", and their threads would change it at once; choose a ",
                  "balance that puts both on one stage");
    };
    const torch::nn::Module& module = *model->ptr(static_cast<std::size_t>(index));
    for (const auto& named : module.named_parameters()) check_one("parameter", named);
    for (const auto& named : module.named_buffers()) check_one("buffer", named);
  }
}

}  // namespace

Plan plan_modules(const torch::nn::Sequential& model, const PipeOptions& options) {
  const int modules = static_cast<int>(model->size());
  check_usage(modules >= 1, "Pipe: the model has no modules");
  const ScheduleSource source = as_of_pipe([&] { return schedule_source(options.schedule); });
  check_usage(!source.is_searched(),
              "Pipe: schedule 'auto' is searched for by what layers cost, and modules of your own ",
              "do not say it; name a schedule");
  const int ranks = ranks_of(options, source.stages_per_rank());
  const PlanWish wish = {.schedule = options.schedule,
                         .ranks = ranks,
                         .stages_per_rank = source.stages_per_rank(),
                         .cut = {.balance = {}, .split = split_of(options.balance, modules)},
                         .recompute = recompute_of(options.recompute)};
  Plan plan = as_of_pipe([&] { return make_plan(describe(model), wish); });
  for (int s = 0; s < plan.stages(); ++s)
    check_usage(plan.placement.replicas(s) == 1, "Pipe: schedule '", options.schedule, "' keeps ",
                plan.placement.replicas(s), " copies of each stage; use one that keeps one");
  check_nothing_shared(model, plan);
  return plan;
}

Schedule schedule_of_step(const Plan& plan, int microbatches) {
  Schedule schedule = as_of_pipe([&] { return schedule_of(plan, microbatches, Pass::Train); });
  check_usage(!is_asynchronous(schedule), "Pipe: schedule '", plan.source.name,
              "' is asynchronous; use one that is not");
  return schedule;
}

}  // namespace headrace
