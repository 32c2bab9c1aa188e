#include "headrace/pipe/stages.h"

#include <algorithm>
#include <cstddef>
#include <map>

#include "headrace/base/error.h"
#include "headrace/plan/partition.h"

namespace headrace {
namespace {

std::vector<int> cut_as_told(const std::vector<int>& balance, int modules) {
  std::vector<int> starts = {0};
  for (const int of_stage : balance) {
    check_usage(of_stage >= 1, "Pipe: balance holds ", of_stage, "; each stage needs a module");
    starts.push_back(starts.back() + of_stage);
  }
  check_usage(starts.back() == modules, "Pipe: balance has ", starts.back(),
              " modules in all, and the model has ", modules);
  return starts;
}

std::vector<int> cut_evenly(const torch::nn::Sequential& model, int stages) {
  const int modules = static_cast<int>(model->size());
  check_usage(modules >= stages, "Pipe: ", stages,
              " stages need as many modules, and the model has ", modules);
  std::vector<LayerItem> items;
  for (int i = 0; i < modules; ++i) {
    double elements = 1;
    for (const torch::Tensor& parameter : model->ptr(static_cast<std::size_t>(i))->parameters())
      elements += static_cast<double>(parameter.numel());
    items.push_back({cat("module ", i), -1, elements});
  }
  std::vector<int> starts = partition(items, stages, {});
  starts.push_back(modules);
  return starts;
}

// A parameter's gradient and a buffer have one thread that writes to them.
void check_nothing_shared(const torch::nn::Sequential& model, const std::vector<int>& starts) {
  std::map<void*, int> owner;  // the first module that holds a tensor
  for (int index = 0; index < starts.back(); ++index) {
    const int stage = stage_of(index, starts);
    const auto check_one = [&](const char* kind, const auto& named) {
      if (!named.value().defined()) return;
      const int first = owner.emplace(named.value().unsafeGetTensorImpl(), index).first->second;
      check_usage(stage_of(first, starts) == stage, "Pipe: module ", index, " of stage ", stage,
                  " shares ", kind, " ", named.key(), " with module ", first, " of stage ",
                  stage_of(first, starts), ", and their threads would change it at once; choose a ",
                  "balance that puts both on one stage");
    };
    const torch::nn::Module& module = *model->ptr(static_cast<std::size_t>(index));
    for (const auto& named : module.named_parameters()) check_one("parameter", named);
    for (const auto& named : module.named_buffers()) check_one("buffer", named);
  }
}

}  // namespace

std::vector<int> cut_modules(const torch::nn::Sequential& model,
                             const std::vector<int>& balance,
                             int stages) {
  const std::vector<int> starts = balance.empty()
                                      ? cut_evenly(model, stages)
                                      : cut_as_told(balance, static_cast<int>(model->size()));
  check_nothing_shared(model, starts);
  return starts;
}

int stage_of(int module, const std::vector<int>& starts) {
  return static_cast<int>(std::ranges::upper_bound(starts, module) - starts.begin()) - 1;
}

}  // namespace headrace
