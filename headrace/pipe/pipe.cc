#include "headrace/pipe.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/model/draws.h"
#include "headrace/model/module_layer.h"
#include "headrace/pipe/batch.h"
#include "headrace/pipe/ends.h"
#include "headrace/pipe/operation.h"
#include "headrace/pipe/schedules.h"
#include "headrace/pipe/stages.h"
#include "headrace/plan/source.h"
#include "headrace/runtime/executor.h"
#include "headrace/runtime/stage.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/transport/local.h"

namespace headrace {

namespace {

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

std::vector<bool> modes_of(const torch::nn::Sequential& model) {
  std::vector<bool> training;
  for (const auto& module : model->modules()) training.push_back(module->is_training());
  return training;
}

}  // namespace

struct Pipe::Inside {
  torch::nn::Sequential model;
  PipeOptions options;
  Placement placement;
  std::vector<int> starts;  // first module of each stage, and one past the last
  std::vector<std::unique_ptr<Stage>> stages;
  LossFunction loss;
  Timeline timeline;
  // Of step(), forward() and backward(); made when first run.
  std::optional<Schedule> of_step, of_forward, of_backward;
  bool saved = false;              // a forward() waits for its backward()
  std::vector<bool> modes;         // which modules were training in it
  std::int64_t runs = -1;          // of step() or forward(): what a schedule run calls its step
  std::uint64_t key = 0;           // of the run's draws
  std::atomic<bool> drew = false;  // whether a module drew anything in it

  Inside(torch::nn::Sequential given, const PipeOptions& wanted);
  torch::Device device(int rank) const {
    return options.devices.empty() ? torch::Device(torch::kCPU) : options.devices[at(rank)];
  }
  void build();
  // The first and the last stage are on different threads: `ends` is for both.
  void run(const Schedule& schedule, RunOptions how, Ends& ends);
  double step(const Tensors& inputs,
              const torch::Tensor& target,
              const Loss& with,
              std::optional<double> divisor);
  torch::Tensor forward(const Tensors& inputs, bool save);
  torch::Tensor backward(const torch::Tensor& gradient);
  // Before and after a run of step() or forward().
  void begin();
  void end(const PipeBatch& batch);
};

Pipe::Inside::Inside(torch::nn::Sequential given, const PipeOptions& wanted)
    : model(std::move(given)), options(wanted) {
  check_usage(options.microbatches >= 1, "Pipe: microbatches is ", options.microbatches,
              "; it must be 1 or more");
  const int modules = static_cast<int>(model->size());
  check_usage(modules >= 1, "Pipe: the model has no modules");
  check_usage(options.schedule != kSearched,
              "Pipe: schedule 'auto' is searched for by what layers "
              "cost, and modules of your own do not say it; name a schedule");
  // The stages a rank does not depend on the sizes.
  const Placement example = generate(options.schedule, {.ranks = 2, .microbatches = 8}).placement;
  const int per_rank = example.stages() / 2;
  for (int s = 0; s < example.stages(); ++s)
    check_usage(example.replicas(s) == 1, "Pipe: schedule '", options.schedule, "' keeps ",
                example.replicas(s), " copies of each stage; use one that keeps one");
  int ranks = static_cast<int>(options.devices.size());
  if (!options.balance.empty()) {
    const int count = static_cast<int>(options.balance.size());
    check_usage(count % per_rank == 0, "Pipe: balance has ", count, " stages, and schedule '",
                options.schedule, "' puts ", per_rank, " on each rank");
    check_usage(ranks == 0 || ranks == count / per_rank, "Pipe: balance has ", count, " stages, ",
                per_rank, " a rank, and there are ", ranks, " devices");
    ranks = count / per_rank;
  }
  check_usage(ranks >= 1, "Pipe: give balance (modules a stage) or devices (one a rank)");
  placement = generate(options.schedule, {.ranks = ranks, .microbatches = 4 * ranks}).placement;
  starts = cut_modules(model, options.balance, placement.stages());
  build();
}

void Pipe::Inside::build() {
  for (const int stage : options.recompute)
    check_usage(stage >= -1 && stage < placement.stages(), "Pipe: recompute names stage ", stage,
                "; there are stages 0 to ", placement.stages() - 1);
  std::vector<std::vector<std::unique_ptr<Layer>>> layers(at(placement.stages()));
  std::vector<LayersWeights> weights(layers.size());
  int index = 0;
  for (const torch::nn::AnyModule& module : *model) {
    const int stage = stage_of(index, starts);
    const ModulePlace place{device(placement.rank(stage, 0)), index++, &drew};
    module.ptr()->to(place.device);
    layers[at(stage)].push_back(module_layer(module, place));
    weights[at(stage)].push_back(module_weights(module));
  }
  layers.back().push_back(
      loss_layer(loss, {device(placement.rank(placement.stages() - 1, 0)), index, &drew}));
  weights.back().emplace_back();
  for (int s = 0; s < placement.stages(); ++s) {
    const bool again =
        options.recompute == std::vector<int>{-1} || std::ranges::count(options.recompute, s) > 0;
    stages.push_back(std::make_unique<Stage>(s, std::move(layers[at(s)]), std::move(weights[at(s)]),
                                             again ? Recompute::All : Recompute::None));
  }
}

void Pipe::Inside::run(const Schedule& schedule, RunOptions how, Ends& ends) {
  std::mutex mutex;
  timeline.name = schedule.name;
  timeline.measured = true;
  timeline.ranks.resize(at(placement.ranks));
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int threads = options.threads > 0 ? options.threads : std::max(1, cores / placement.ranks);
  how.precision = options.precision;
  how.step = runs;
  how.key = key;
  run_ranks(placement.ranks, [&](Transport& transport) {
    torch::set_num_threads(threads);
    std::vector<Stage*> mine;
    for (const int s : placement.stages_of(transport.rank())) mine.push_back(stages[at(s)].get());
    Executor executor(transport, placement, mine);
    executor.run(schedule, how, ends);
    const std::lock_guard lock(mutex);
    auto& events = timeline.ranks[at(transport.rank())];
    events.insert(events.end(), executor.events().begin(), executor.events().end());
  });
}

void Pipe::Inside::begin() {
  for (const auto& stage : stages) stage->forget();
  saved = false;
  ++runs;
  drew = false;
  key = next_of_default_generator(false);
  timeline.ranks.clear();
}

double Pipe::Inside::step(const Tensors& inputs,
                          const torch::Tensor& target,
                          const Loss& with,
                          std::optional<double> divisor) {
  check_usage(!divisor || (std::isfinite(*divisor) && *divisor > 0), "Pipe: the loss's divisor is ",
              divisor.value_or(0), "; it must be above 0: how many labels of the batch count");
  const PipeBatch batch(inputs, options.microbatches, options.whole_inputs, true);
  const Tensors targets = batch.cut_target(target);
  if (!divisor) check_evenly_ignored(targets);
  if (!of_step) of_step = pipe_step(options.schedule, placement.ranks, options.microbatches);
  loss = with;
  begin();
  StepEnds ends(batch, targets);
  run(*of_step, {.normaliser = [&](int m) { return divisor ? 1 / *divisor : batch.share(m); }},
      ends);
  end(batch);
  return ends.loss();
}

torch::Tensor Pipe::Inside::forward(const Tensors& inputs, bool save) {
  const PipeBatch batch(inputs, options.microbatches, options.whole_inputs, save);
  if (!of_forward) of_forward = pipe_forward(placement, options.microbatches);
  begin();
  ForwardEnds ends(batch, options.microbatches);
  run(*of_forward, {.pass = save ? Pass::Train : Pass::Evaluate}, ends);
  end(batch);
  saved = save;
  modes = modes_of(model);
  return torch::cat(ends.outputs(), 0);
}

void Pipe::Inside::end(const PipeBatch& batch) {
  batch.note_writes();
  if (drew) next_of_default_generator(true);
}

torch::Tensor Pipe::Inside::backward(const torch::Tensor& gradient) {
  check(saved, "Pipe: backward() was called twice, or after another forward() or step()");
  check(options.recompute.empty() || modes == modes_of(model),
        "Pipe: train() or eval() was called on the model between forward() and backward(), which ",
        "is to compute the forward of stages in `recompute` again; call it after the backward");
  if (!of_backward) of_backward = pipe_backward(placement, options.microbatches);
  saved = false;
  BackwardEnds ends(gradient.tensor_split(options.microbatches, 0));
  run(*of_backward, {}, ends);
  const Tensors& input_gradients = ends.input_gradients();
  return input_gradients[0].defined() ? torch::cat(input_gradients, 0) : torch::Tensor();
}

Pipe::Pipe(torch::nn::Sequential model, const PipeOptions& options)
    : inside_(std::make_shared<Inside>(std::move(model), options)) {}

Pipe::~Pipe() = default;

std::vector<torch::Tensor> Pipe::parameters() const {
  std::vector<torch::Tensor> all;
  std::set<void*> seen;  // a module that stands twice in the model is trained once
  for (const torch::Tensor& parameter : inside_->model->parameters())
    if (seen.insert(parameter.unsafeGetTensorImpl()).second) all.push_back(parameter);
  return all;
}

double Pipe::step(const torch::Tensor& input,
                  const torch::Tensor& target,
                  const Loss& loss,
                  std::optional<double> divisor) {
  return inside_->step({input}, target, loss, divisor);
}

double Pipe::step(const Tensors& inputs,
                  const torch::Tensor& target,
                  const Loss& loss,
                  std::optional<double> divisor) {
  return inside_->step(inputs, target, loss, divisor);
}

torch::Tensor Pipe::forward(const torch::Tensor& input) {
  return forward(Tensors{input});
}

torch::Tensor Pipe::forward(const Tensors& inputs) {
  if (inputs.empty() || !torch::GradMode::is_enabled()) return inside_->forward(inputs, false);
  for (std::size_t i = 1; i < inputs.size(); ++i)
    check_usage(!inputs[i].requires_grad(), "Pipe: input ", i,
                " wants a gradient, and forward() gives one to the first alone");
  const auto run = [&](const torch::Tensor& batch) {
    Tensors all = inputs;
    all[0] = batch;
    return inside_->forward(all, true);
  };
  return as_one_operation(
      inputs[0], run,
      // The output may outlive this.
      [inside = inside_](const torch::Tensor& gradient) { return inside->backward(gradient); });
}

int Pipe::ranks() const {
  return inside_->placement.ranks;
}

std::vector<int> Pipe::balance() const {
  std::vector<int> sizes;
  for (std::size_t s = 0; s + 1 < inside_->starts.size(); ++s)
    sizes.push_back(inside_->starts[s + 1] - inside_->starts[s]);
  return sizes;
}

const Timeline& Pipe::timeline() const {
  return inside_->timeline;
}

}  // namespace headrace
