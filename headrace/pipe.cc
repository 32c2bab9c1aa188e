#include "headrace/pipe.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/model/stage_module.h"
#include "headrace/plan/partition.h"
#include "headrace/plan/search.h"
#include "headrace/runtime/executor.h"
#include "headrace/runtime/stage.h"
#include "headrace/schedule/generators.h"
#include "headrace/schedule/lower.h"
#include "headrace/schedule/validate.h"
#include "headrace/transport/local.h"

namespace headrace {

namespace {

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

Schedule sound(const Schedule& schedule) {
  require_valid(schedule);
  Schedule lowered = lower(schedule);
  require_valid(lowered);
  return lowered;
}

// Parts that are inputs of their own.
Tensors cut(const torch::Tensor& batch, int parts) {
  Tensors all = batch.detach().tensor_split(parts, 0);
  for (torch::Tensor& part : all) part.set_requires_grad(batch.requires_grad());
  return all;
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
  std::map<std::string, Schedule> schedules;
  bool saved = false;      // a forward() waits for its backward()
  std::int64_t runs = -1;  // of step() or forward(): what a schedule run calls its step

  Inside(torch::nn::Sequential given, const PipeOptions& wanted);
  torch::Device device(int rank) const {
    return options.devices.empty() ? torch::Device(torch::kCPU) : options.devices[at(rank)];
  }
  void cut_model(int count);
  void build();
  const Schedule& schedule(const std::string& what);
  Losses run(const Schedule& schedule, const std::function<void(Feed&)>& fill);
  double step(const Tensors& inputs, const torch::Tensor& target, const Loss& with);
  torch::Tensor forward(const Tensors& inputs, bool save);
  torch::Tensor backward(const torch::Tensor& gradient);
  // What each microbatch gets.
  std::vector<Tensors> begin(const Tensors& inputs);
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
  cut_model(placement.stages());
  build();
}

void Pipe::Inside::cut_model(int count) {
  const int modules = static_cast<int>(model->size());
  starts = {0};
  if (!options.balance.empty()) {
    for (const int of_stage : options.balance) {
      check_usage(of_stage >= 1, "Pipe: balance holds ", of_stage, "; each stage needs a module");
      starts.push_back(starts.back() + of_stage);
    }
    check_usage(starts.back() == modules, "Pipe: balance has ", starts.back(),
                " modules in all, and the model has ", modules);
    return;
  }
  check_usage(modules >= count, "Pipe: ", count, " stages need as many modules, and the model has ",
              modules);
  std::vector<LayerItem> items;
  for (int i = 0; i < modules; ++i) {
    double elements = 1;
    for (const torch::Tensor& parameter : model->ptr(at(i))->parameters())
      elements += static_cast<double>(parameter.numel());
    items.push_back({cat("module ", i), -1, elements});
  }
  starts = partition(items, count, {});
  starts.push_back(modules);
}

void Pipe::Inside::build() {
  std::map<void*, int> owner;
  int index = 0;
  std::vector<std::vector<std::unique_ptr<Layer>>> layers(at(placement.stages()));
  for (const torch::nn::AnyModule& module : *model) {
    const int stage =
        static_cast<int>(std::ranges::upper_bound(starts, index) - starts.begin()) - 1;
    const torch::Device where = device(placement.rank(stage, 0));
    module.ptr()->to(where);
    for (const torch::Tensor& parameter : module.ptr()->parameters()) {
      const auto [found, is_new] = owner.emplace(parameter.unsafeGetTensorImpl(), stage);
      check_usage(is_new || found->second == stage, "Pipe: module ", index, " of stage ", stage,
                  " shares a parameter with stage ", found->second,
                  "; put them on one stage, as two threads would add to one gradient");
    }
    layers[at(stage)].push_back(module_layer(module, where));
    ++index;
  }
  layers.back().push_back(loss_layer(loss));
  for (const int stage : options.recompute)
    check_usage(stage >= -1 && stage < placement.stages(), "Pipe: recompute names stage ", stage,
                "; there are stages 0 to ", placement.stages() - 1);
  for (int s = 0; s < placement.stages(); ++s) {
    const bool again =
        options.recompute == std::vector<int>{-1} || std::ranges::count(options.recompute, s) > 0;
    stages.push_back(std::make_unique<Stage>(s, std::move(layers[at(s)]),
                                             again ? Recompute::All : Recompute::None));
  }
}

const Schedule& Pipe::Inside::schedule(const std::string& what) {
  const auto [found, is_new] = schedules.try_emplace(what);
  if (!is_new) return found->second;
  const Schedule whole =
      what == "step" ? generate(options.schedule,
                                {.ranks = placement.ranks, .microbatches = options.microbatches})
                     : forward_only(placement, options.microbatches);
  if (what != "backward") {
    check_usage(!is_asynchronous(whole) && whole.sequence_splits == 1, "Pipe: schedule '",
                options.schedule, "' is asynchronous or splits sequences; use one that does not");
    return found->second = sound(whole);
  }
  // Backwards alone: each rank's forwards the other way round, but microbatches ascending.
  Schedule both = whole;
  for (auto& list : both.ranks) {
    std::vector<Action> backwards(list.rbegin(), list.rend());
    std::ranges::stable_sort(backwards, [](const Action& a, const Action& b) {
      return std::pair(-a.stage, a.microbatch) < std::pair(-b.stage, b.microbatch);
    });
    for (Action& action : backwards) {
      action.kind = Kind::Backward;
      list.push_back(action);
    }
  }
  Schedule lowered = sound(both);
  for (auto& list : lowered.ranks)
    std::erase_if(list, [](const Action& a) {
      return a.kind == Kind::Forward || a.kind == Kind::SendForward || a.kind == Kind::RecvForward;
    });
  return found->second = std::move(lowered);
}

Losses Pipe::Inside::run(const Schedule& schedule, const std::function<void(Feed&)>& fill) {
  Losses all;
  std::mutex mutex;
  timeline.name = schedule.name;
  timeline.measured = true;
  timeline.ranks.resize(at(placement.ranks));
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int threads = options.threads > 0 ? options.threads : std::max(1, cores / placement.ranks);
  run_ranks(placement.ranks, [&](Transport& transport) {
    torch::set_num_threads(threads);
    std::vector<Stage*> mine;
    for (const int s : placement.stages_of(transport.rank())) mine.push_back(stages[at(s)].get());
    Executor executor(transport, placement, mine);
    Feed feed;
    feed.loss_scale = [](int) { return 1.0; };
    feed.precision = options.precision;
    feed.step = runs;
    fill(feed);
    const Losses losses = executor.run(schedule, feed);
    const std::lock_guard lock(mutex);
    all.loss.insert(losses.loss.begin(), losses.loss.end());
    auto& events = timeline.ranks[at(transport.rank())];
    events.insert(events.end(), executor.events().begin(), executor.events().end());
  });
  return all;
}

std::vector<Tensors> Pipe::Inside::begin(const Tensors& inputs) {
  check_usage(!inputs.empty(), "Pipe: there is no input");
  const torch::Tensor& first = inputs[0];
  const std::int64_t rows = first.dim() >= 1 ? first.size(0) : 0;
  check_usage(rows >= options.microbatches, "Pipe: the batch has ", rows, " rows, and there are ",
              options.microbatches, " microbatches; each needs a row");
  for (const int place : options.whole_inputs)
    check_usage(place >= 1 && at(place) < inputs.size(), "Pipe: whole_inputs names input ", place,
                "; there are inputs 0 to ", inputs.size() - 1, ", and the first is cut");
  std::vector<Tensors> parts(at(options.microbatches));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const torch::Tensor& input = inputs[i];
    const bool whole =
        input.dim() == 0 || std::ranges::count(options.whole_inputs, static_cast<int>(i)) > 0;
    check_usage(whole || input.size(0) == rows, "Pipe: input ", i, " has ",
                whole ? 0 : input.size(0), " rows, and the batch ", rows,
                "; name it in whole_inputs if each microbatch is to get all of it");
    const Tensors cut_up = whole ? Tensors(parts.size(), input) : cut(input, options.microbatches);
    for (std::size_t m = 0; m < parts.size(); ++m) parts[m].push_back(cut_up[m]);
  }
  for (const auto& stage : stages) stage->forget();
  saved = false;
  ++runs;
  timeline.ranks.clear();
  return parts;
}

double Pipe::Inside::step(const Tensors& inputs, const torch::Tensor& target, const Loss& with) {
  const std::vector<Tensors> parts = begin(inputs);
  const std::int64_t rows = inputs[0].size(0);
  check_usage(target.dim() >= 1 && target.size(0) == rows, "Pipe: the batch has ", rows,
              " rows, and the target ", target.dim() >= 1 ? target.size(0) : 0);
  loss = with;
  const Tensors targets = cut(target, options.microbatches);
  const Losses losses = run(schedule("step"), [&](Feed& feed) {
    feed.inputs = [&](int m) { return parts[at(m)]; };
    feed.targets = [&](int m) { return targets[at(m)]; };
    feed.loss_scale = [&](int m) {
      return static_cast<double>(parts[at(m)][0].size(0)) / static_cast<double>(rows);
    };
  });
  double sum = 0;
  for (const auto& [microbatch, value] : losses.loss) sum += value;
  return sum;
}

torch::Tensor Pipe::Inside::forward(const Tensors& inputs, bool save) {
  const std::vector<Tensors> parts = begin(inputs);
  Tensors outputs(parts.size());
  run(schedule("forward"), [&](Feed& feed) {
    feed.training = save;
    feed.inputs = [&](int m) { return parts[at(m)]; };
    feed.on_output = [&](int m, const Tensors& output) { outputs[at(m)] = output.at(0).detach(); };
  });
  saved = save;
  return torch::cat(outputs, 0);
}

torch::Tensor Pipe::Inside::backward(const torch::Tensor& gradient) {
  check(saved, "Pipe: backward() was called twice, or after another forward() or step()");
  saved = false;
  const Tensors gradients = cut(gradient, options.microbatches);
  Tensors input_gradients(gradients.size());
  run(schedule("backward"), [&](Feed& feed) {
    feed.output_gradients = [&](int m) { return Tensors{gradients[at(m)]}; };
    feed.on_input_gradients = [&](int m, const Tensors& of_inputs) {
      input_gradients[at(m)] = of_inputs.at(0);
    };
  });
  return input_gradients[0].defined() ? torch::cat(input_gradients, 0) : torch::Tensor();
}

namespace {

// Carries the pipe from the forward to the backward.
struct Carrier : torch::CustomClassHolder {
  explicit Carrier(std::function<torch::Tensor(const torch::Tensor&)> backward_of_pipe)
      : backward(std::move(backward_of_pipe)) {}
  std::function<torch::Tensor(const torch::Tensor&)> backward;
};

// The whole pipeline as one operation of autograd. `anchor` makes the output want a gradient.
class WholePipe : public torch::autograd::Function<WholePipe> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& input,
                               const torch::Tensor& /*anchor*/,
                               const std::function<torch::Tensor(const torch::Tensor&)>& run,
                               const c10::intrusive_ptr<Carrier>& carrier) {
    context->saved_data["pipe"] = c10::IValue::make_capsule(carrier);
    return run(input);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto carrier =
        c10::static_intrusive_pointer_cast<Carrier>(context->saved_data["pipe"].toCapsule());
    return {carrier->backward(gradients[0]), torch::Tensor(), torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

Pipe::Pipe(torch::nn::Sequential model, const PipeOptions& options)
    : inside_(std::make_shared<Inside>(std::move(model), options)) {}

Pipe::~Pipe() = default;

std::vector<torch::Tensor> Pipe::parameters() const {
  return inside_->model->parameters();
}

double Pipe::step(const torch::Tensor& input, const torch::Tensor& target, const Loss& loss) {
  return inside_->step({input}, target, loss);
}

double Pipe::step(const Tensors& inputs, const torch::Tensor& target, const Loss& loss) {
  return inside_->step(inputs, target, loss);
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
  // The output may outlive this.
  const auto carrier = c10::make_intrusive<Carrier>(
      [inside = inside_](const torch::Tensor& gradient) { return inside->backward(gradient); });
  return WholePipe::apply(inputs[0], torch::zeros({}).requires_grad_(), run, carrier);
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
