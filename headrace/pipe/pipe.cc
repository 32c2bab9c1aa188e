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
#include "headrace/pipe/backward_only.h"
#include "headrace/pipe/batch.h"
#include "headrace/pipe/ends.h"
#include "headrace/pipe/module_plan.h"
#include "headrace/pipe/operation.h"
#include "headrace/plan/plan.h"
#include "headrace/runtime/executor.h"
#include "headrace/runtime/stage.h"
#include "headrace/transport/local.h"
#include "headrace/transport/rank_threads.h"

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
  Plan plan;  // of the modules; the last stage also has the loss
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
  // A rank each, from the first run until stop(): a run that fails leaves messages behind.
  std::vector<std::unique_ptr<Stopwatch>> watches;
  std::vector<std::unique_ptr<Executor>> executors;
  std::optional<RankThreads> threads;
  // By rank, of the runs that the timeline does not hold yet: on devices their times are read when it is asked for.
  std::vector<std::vector<Done>> done;

  Inside(torch::nn::Sequential given, const PipeOptions& wanted);
  torch::Device device(int rank) const {
    return options.devices.empty() ? torch::Device(torch::kCPU) : options.devices[at(rank)];
  }
  void build();
  void start();
  void stop();
  void read_timeline();
  // The first and the last stage are on different threads: `ends` is for both. `given`: by the caller, on whatever
  // devices.
  void run(const Schedule& schedule, RunOptions how, Ends& ends, const Tensors& given);
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
  plan = plan_modules(model, options);
  build();
}

void Pipe::Inside::build() {
  std::vector<std::vector<std::unique_ptr<Layer>>> layers(at(plan.stages()));
  std::vector<LayersWeights> weights(layers.size());
  int index = 0;
  for (const torch::nn::AnyModule& module : *model) {
    const int stage = plan.stage_of(index);
    const ModulePlace place{device(plan.placement.rank(stage, 0)), index++, &drew};
    module.ptr()->to(place.device);
    layers[at(stage)].push_back(module_layer(module, place));
    weights[at(stage)].push_back(module_weights(module));
  }
  layers.back().push_back(
      loss_layer(loss, {device(plan.placement.rank(plan.stages() - 1, 0)), index, &drew}));
  weights.back().emplace_back();
  for (int s = 0; s < plan.stages(); ++s)
    stages.push_back(std::make_unique<Stage>(s, std::move(layers[at(s)]), std::move(weights[at(s)]),
                                             plan.recompute[at(s)]));
}

void Pipe::Inside::start() {
  read_timeline();
  watches.resize(at(plan.placement.ranks));
  executors.resize(at(plan.placement.ranks));
  threads.emplace(local_transports(plan.placement.ranks));
}

void Pipe::Inside::stop() {
  threads.reset();
  executors.clear();
}

void Pipe::Inside::read_timeline() {
  timeline.ranks.resize(at(plan.placement.ranks));
  for (std::size_t rank = 0; rank < done.size(); ++rank) {
    if (done[rank].empty()) continue;
    watches[rank]->read();
    const std::vector<Event> events = events_of(std::exchange(done[rank], {}), *watches[rank]);
    timeline.ranks[rank].insert(timeline.ranks[rank].end(), events.begin(), events.end());
  }
}

void Pipe::Inside::run(const Schedule& schedule, RunOptions how, Ends& ends, const Tensors& given) {
  std::mutex mutex;
  how.precision = options.precision;
  how.step = runs;
  how.key = key;
  timeline.name = schedule.name;
  timeline.measured = true;
  done.resize(at(plan.placement.ranks));
  // What the caller has given to the devices comes before, and what it will give to them after.
  Marks before, after;
  const Marks ready = marks_of(given);
  for (int rank = 0; rank < plan.placement.ranks; ++rank) before.push_back(Mark::now(device(rank)));
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int intra =
      options.threads > 0 ? options.threads : std::max(1, cores / plan.placement.ranks);
  const auto work = [&](Transport& transport) {
    const int rank = transport.rank();
    torch::set_num_threads(intra);
    std::unique_ptr<Executor>& executor = executors[at(rank)];
    if (!executor) {
      std::vector<Stage*> mine;
      for (const int s : plan.placement.stages_of(rank)) mine.push_back(stages[at(s)].get());
      watches[at(rank)] = std::make_unique<Stopwatch>(transport, device(rank));
      executor = std::make_unique<Executor>(transport, plan.placement, mine, *watches[at(rank)]);
    }
    for (const Mark& mark : before) mark.come_after();
    take_over(given, ready);
    executor->run(schedule, how, ends);
    const std::lock_guard lock(mutex);
    done[at(rank)].insert(done[at(rank)].end(), executor->done().begin(), executor->done().end());
    after.push_back(Mark::now(device(rank)));
  };
  if (!threads) start();
  try {
    threads->run(work);
  } catch (...) {
    stop();
    throw;
  }
  Tensors gradients;  // the ranks have made them, and the caller's optimizer will let go of them
  for (const torch::Tensor& parameter : model->parameters()) gradients.push_back(parameter.grad());
  take_over(gradients, after);
}

void Pipe::Inside::begin() {
  for (const auto& stage : stages) stage->forget();
  saved = false;
  ++runs;
  drew = false;
  key = next_of_default_generator(false);
  timeline.ranks.clear();
  done.clear();
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
  if (!of_step) of_step = schedule_of_step(plan, options.microbatches);
  loss = with;
  begin();
  StepEnds ends(batch, targets);
  Tensors given = inputs;
  given.push_back(target);
  run(*of_step, {.normaliser = [&](int m) { return divisor ? 1 / *divisor : batch.share(m); }},
      ends, given);
  end(batch);
  return ends.loss();
}

torch::Tensor Pipe::Inside::forward(const Tensors& inputs, bool save) {
  const PipeBatch batch(inputs, options.microbatches, options.whole_inputs, save);
  if (!of_forward) of_forward = schedule_of(plan, options.microbatches, Pass::Evaluate);
  begin();
  ForwardEnds ends(batch, options.microbatches);
  run(*of_forward, {.pass = save ? Pass::Train : Pass::Evaluate}, ends, inputs);
  end(batch);
  saved = save;
  modes = modes_of(model);
  take_over(ends.outputs(), {});
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
  if (!of_backward) of_backward = backward_only(plan.placement, options.microbatches);
  saved = false;
  BackwardEnds ends(gradient.tensor_split(options.microbatches, 0));
  run(*of_backward, {}, ends, {gradient});
  const Tensors& input_gradients = ends.input_gradients();
  return input_gradients[0].defined() ? torch::cat(input_gradients, 0) : torch::Tensor();
}

Pipe::Pipe(torch::nn::Sequential model, const PipeOptions& options)
    : inside_(std::make_shared<Inside>(std::move(model), options)) {}

// What forward() gave may outlive this, and its backward() starts threads again.
Pipe::~Pipe() {
  inside_->stop();
}

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
  return inside_->plan.placement.ranks;
}

std::vector<int> Pipe::balance() const {
  std::vector<int> sizes;
  const Plan& plan = inside_->plan;
  for (int s = 0; s < plan.stages(); ++s) sizes.push_back(plan.end(s) - plan.starts[at(s)]);
  return sizes;
}

const Timeline& Pipe::timeline() const {
  inside_->read_timeline();
  return inside_->timeline;
}

}  // namespace headrace
