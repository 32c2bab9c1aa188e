#include "headrace/runtime/pipeline.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/keyed.h"
#include "headrace/base/text.h"
#include "headrace/model/metrics.h"
#include "headrace/runtime/update_plan.h"
#include "headrace/schedule/versions.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/tensor/to_host.h"
#include "headrace/transport/all_gather.h"

namespace headrace {
namespace {

// What each rank tells the others at the end of a step, as a list of numbers: the fixed part, then
// what the caller tells, (microbatch, loss) pairs, and squared norms.
constexpr std::size_t kStart = 0, kEnd = 1, kLosses = 2, kFixed = 3;

// A model's own ends: batches in, losses and counts out.
class LossEnds : public Ends {
 public:
  explicit LossEnds(const StepInput& input) : input_(input) {}

  Tensors inputs(int microbatch) override { return {input_.inputs(microbatch)}; }
  torch::Tensor targets(int microbatch) override {
    return input_.targets ? input_.targets(microbatch) : torch::Tensor();
  }
  void take_outputs(int microbatch, const Tensors& outputs) override {
    outputs_.emplace(microbatch, outputs);
  }

  // Of the last stage's microbatches on this rank: their numbers, and of their outputs the one at `place`.
  std::vector<int> microbatches() const {
    std::vector<int> all;
    for (const auto& [microbatch, outputs] : outputs_) all.push_back(microbatch);
    return all;
  }
  Tensors at(std::size_t place) const {
    Tensors all;
    for (const auto& [microbatch, outputs] : outputs_) all.push_back(outputs[place]);
    return all;
  }

 private:
  const StepInput& input_;
  std::map<int, Tensors> outputs_;
};

}  // namespace

Pipeline::Pipeline(const std::vector<LayerSpec>& model,
                   Plan plan,
                   Transport& transport,
                   const PipelineOptions& options)
    : plan_(std::move(plan)),
      transport_(transport),
      options_(options),
      ownership_(ownership_of(plan_)),
      watch_(transport, options.device) {
  check(transport.size() == plan_.placement.ranks, "the schedule is for ", plan_.placement.ranks,
        " ranks, but there are ", transport.size());
  std::vector<Stage*> stages;
  const std::vector<int> mine = plan_.placement.stages_of(transport.rank());
  for (const int s : mine) {
    std::vector<std::unique_ptr<Layer>> layers;
    LayersWeights weights;
    for (int i = plan_.starts[static_cast<std::size_t>(s)]; i < plan_.end(s); ++i) {
      const LayerSpec& spec = model[static_cast<std::size_t>(i)];
      try {
        weights.push_back(
            initial_weights(spec.parameters, {.seed = options.seed, .device = options.device}));
        layers.push_back(spec.build());
      } catch (const std::exception& error) {
        throw Error(cat("rank ", transport.rank(), " cannot make layer ", spec.name, " of stage ",
                        s, ": ", text_of(error)));
      }
    }
    stages_.push_back(std::make_unique<Stage>(s, std::move(layers), std::move(weights),
                                              plan_.recompute[static_cast<std::size_t>(s)]));
    stages.push_back(stages_.back().get());
  }
  weights_ = std::make_unique<Weights>(plan_, ownership_, transport.rank(), stages);
  gradients_ = std::make_unique<Gradients>(transport, ownership_, *weights_, mine, options.sharded);
  executor_ = std::make_unique<Executor>(transport, plan_.placement, stages, watch_);
}

const Schedule& Pipeline::schedule(int microbatches, Pass pass) {
  const auto [found, is_new] = schedules_.try_emplace({microbatches, pass});
  if (is_new) found->second = schedule_of(plan_, microbatches, pass);
  return found->second;
}

ToUpdate Pipeline::to_update() const {
  ToUpdate all;
  for (const std::size_t i : gradients_->to_update()) {
    all.names.push_back(weights_->name(i));
    all.values.push_back(weights_->value(i));
    all.gradients.push_back(gradients_->sum(i));
  }
  return all;
}

ToUpdate Pipeline::to_update(int stage) const {
  ToUpdate all;
  for (const std::size_t i : weights_->of_stage(stage)) {
    all.names.push_back(weights_->name(i));
    all.values.push_back(weights_->value(i));
    all.gradients.push_back(weights_->gradients(i).front());
  }
  return all;
}

RunOptions Pipeline::options_of(const StepInput& input, Pass pass) const {
  return {.step = input.step,
          .pass = pass,
          .key = keyed(options_.seed, "dropout", input.step),
          .precision = options_.precision,
          .before_action = input.before_action};
}

void Pipeline::run(const StepInput& input,
                   const StepPolicy& policy,
                   const Schedule& schedule,
                   Ends& ends) {
  RunOptions options = options_of(input, Pass::Train);
  options.normaliser = [&](int) { return policy.normaliser; };
  options.backward_scale = policy.backward_scale;
  options.stage_done = [&](int stage) { gradients_->stage_done(stage, input.step); };
  executor_->run(schedule, options, ends);
}

std::vector<std::vector<double>> Pipeline::wait_for(const std::vector<Tensors>& lists) {
  transport_.await(Mark::now(options_.device));
  std::vector<std::vector<double>> numbers = to_host(lists);
  watch_.read();
  return numbers;
}

void Pipeline::require_finite(const MadeUpdate& update,
                              const std::vector<double>& norms,
                              const std::string& consequence) const {
  auto norm = norms.begin();
  for (const std::size_t i : weights_->of_stage(update.stage))
    check(std::isfinite(*norm++), "the gradient of ", weights_->name(i),
          " is not finite, of microbatches ", update.microbatches.front(), " to ",
          update.microbatches.back(), consequence);
}

// Each stage keeps the weights that microbatches under way, and forwards to come, are computed
// with.
std::vector<Pipeline::MadeUpdate> Pipeline::run_asynchronous(const StepInput& input,
                                                             const StepPolicy& policy,
                                                             const Schedule& schedule,
                                                             Ends& ends) {
  check(
      !ownership_.any_shared(),
      "an asynchronous schedule updates each stage at a time of its own, so that no parameter may ",
      "have several owners: no tied embeddings, no replicas");
  check(policy.backward_scale == 1,
        "an asynchronous schedule has no step to leave out where fp16 overflows; train in bf16");
  check(policy.clip == 0, "an asynchronous schedule has no norm of all gradients to clip by");
  const UpdatePlan order(schedule, transport_.rank());
  std::map<int, double> normalisers;
  for (const auto& [update, microbatches] : order.updates())
    normalisers[update] = policy.normaliser_of_update(microbatches);

  std::vector<MadeUpdate> updates_made;
  std::map<int, int> made;  // updates, by stage
  const auto update = [&](int index) {
    Stage& stage = **std::ranges::find(stages_, index, [](const auto& s) { return s->index(); });
    Tensors gradients;
    for (const std::size_t i : weights_->of_stage(index))
      gradients.push_back(weights_->gradients(i).front());
    if (!gradients.empty())
      updates_made.push_back(
          {index, order.updates().at(made[index]), torch::stack(torch::_foreach_norm(gradients))});
    if (!gradients.empty() && options_.device.is_cpu())
      require_finite(updates_made.back(), to_host({{updates_made.back().norms}}).front(),
                     ": the stage was not updated by it");
    stage.next_version(order.keeps(index, made[index]++));
    policy.update(index);
    for (torch::Tensor& gradient : gradients) gradient.zero_();
  };
  const Updates updates{.version = [&](int stage, int m) { return order.version(stage, m); },
                        .update = update};
  RunOptions options = options_of(input, Pass::Train);
  options.normaliser = [&](int m) { return normalisers.at(order.update_of(m)); };
  options.updates = &updates;
  for (const auto& stage : stages_) stage->weights().begin_versions();
  executor_->run(schedule, options, ends);
  return updates_made;
}

StepResult Pipeline::train(const StepInput& input, const StepPolicy& policy) {
  gradients_->zero();
  const Schedule& schedule_of_step = schedule(input.microbatches, Pass::Train);
  const bool asynchronous = is_asynchronous(schedule_of_step);
  LossEnds ends(input);
  std::vector<MadeUpdate> updates;
  if (asynchronous)
    updates = run_asynchronous(input, policy, schedule_of_step, ends);
  else
    run(input, policy, schedule_of_step, ends);
  const Instant reduce_start = watch_.take();
  if (!asynchronous) gradients_->combine(input.step);
  const Instant reduce_end = watch_.take();

  std::vector<Tensors> lists = {ends.at(0), asynchronous ? Tensors() : gradients_->norms()};
  for (const MadeUpdate& update : updates) lists.push_back({update.norms});
  const std::vector<std::vector<double>> numbers = wait_for(lists);
  for (std::size_t i = 0; i < updates.size(); ++i)
    require_finite(updates[i], numbers[2 + i], cat(", in step ", input.step + 1));
  const std::vector<double>& losses = numbers[0];
  StepResult result;
  result.reduce_start = watch_.seconds(reduce_start);
  result.reduce_end = watch_.seconds(reduce_end);

  std::vector<double> mine(kFixed);
  const std::vector<Event> done = events();
  mine[kStart] = done.empty() ? std::numeric_limits<double>::infinity() : done.front().start;
  mine[kEnd] = done.empty() ? -std::numeric_limits<double>::infinity() : done.back().end;
  mine[kLosses] = static_cast<double>(losses.size());
  mine.insert(mine.end(), policy.tell.begin(), policy.tell.end());
  const std::vector<int> microbatches = ends.microbatches();
  for (std::size_t i = 0; i < losses.size(); ++i) {
    mine.push_back(microbatches[i]);
    mine.push_back(losses[i]);
  }
  for (const double norm : numbers[1]) mine.push_back(norm * norm);

  double start = std::numeric_limits<double>::infinity(), end = -start;
  std::map<int, double> loss_of;
  std::vector<std::vector<double>> norms;
  for (const std::vector<double>& theirs : all_gather(transport_, mine, input.step)) {
    start = std::min(start, theirs[kStart]);
    end = std::max(end, theirs[kEnd]);
    const auto pairs = static_cast<std::ptrdiff_t>(theirs[kLosses]);
    const auto told = theirs.begin() + kFixed;
    const auto first_pair = told + static_cast<std::ptrdiff_t>(policy.tell.size());
    const auto first_norm = first_pair + 2 * pairs;
    result.told.emplace_back(told, first_pair);
    for (auto pair = first_pair; pair < first_norm; pair += 2)
      loss_of.emplace(static_cast<int>(pair[0]), pair[1]);
    norms.emplace_back(first_norm, theirs.end());
  }
  // Each update's loss is a mean of its own.
  const auto means = static_cast<double>(
      asynchronous ? UpdatePlan(schedule_of_step, transport_.rank()).updates().size() : 1);
  for (const auto& [microbatch, loss] : loss_of) result.loss += loss / means;
  result.makespan = end - start;

  result.finite = std::isfinite(result.loss);
  if (asynchronous) {
    result.norm = std::numeric_limits<double>::quiet_NaN();
    return result;
  }
  result.norm = gradients_->total_norm(norms, &result.worst) / policy.backward_scale;
  result.finite = result.finite && std::isfinite(result.norm);
  if (!result.finite) return result;
  const double clip = policy.clip > 0 && result.norm > policy.clip ? policy.clip / result.norm : 1;
  const double factor = clip / policy.backward_scale;
  if (factor != 1) gradients_->scale(factor);
  return result;
}

std::string Pipeline::find_fault(const StepInput& input, const StepPolicy& policy) {
  gradients_->zero();
  FiniteWatch watch;
  for (const auto& stage : stages_) {
    const int first = plan_.starts[static_cast<std::size_t>(stage->index())];
    stage->set_watch(&watch, first);
    const LayersWeights& weights = stage->weights().newest();
    for (std::size_t i = 0; i < weights.size(); ++i)
      watch.weights(first + static_cast<int>(i), weights[i]);
  }
  RunOptions options = options_of(input, Pass::Train);
  options.normaliser = [&](int) { return policy.normaliser; };
  options.backward_scale = policy.backward_scale;
  LossEnds ends(input);
  executor_->run(schedule(input.microbatches, Pass::Train), options, ends);
  for (const auto& stage : stages_) stage->set_watch(nullptr, 0);
  transport_.await(Mark::now(options_.device));
  std::vector<FiniteWatch::Finding> all;
  for (const auto& theirs : all_gather_of(transport_, watch.findings(), input.step))
    all.insert(all.end(), theirs.begin(), theirs.end());
  if (const auto first = FiniteWatch::first(all)) return text_of_fault(*first);
  return "done again, the step has only finite numbers in each microbatch: either gradients of "
         "several overflow where "
         "they are added up, or a processor or memory of this run is at fault";
}

std::string Pipeline::text_of_fault(const FiniteWatch::Finding& finding) const {
  using What = FiniteWatch::What;
  const std::string& layer = plan_.layers[static_cast<std::size_t>(finding.layer)].name;
  const std::string number = finding.is_nan ? "a NaN" : "an infinite number";
  if (finding.what == What::Weight)
    return cat("the weights of ", layer, " held ", number, " before the step");
  int stage = 0;
  while (plan_.end(stage) <= finding.layer) ++stage;
  const int rank = plan_.placement.rank(stage, finding.microbatch);
  const char* where = finding.what == What::Output ? "forward" : "backward";
  return cat(layer, " was the first to make ", number, ": in the ", where, " of microbatch ",
             finding.microbatch, ", on rank ", rank, " (stage ", stage, host_text(transport_, rank),
             ")");
}

Evaluation Pipeline::evaluate(const StepInput& input) {
  LossEnds ends(input);
  executor_->run(schedule(input.microbatches, Pass::Evaluate), options_of(input, Pass::Evaluate),
                 ends);
  const std::size_t numbers = 1 + metrics().size();
  std::vector<Tensors> lists;
  for (std::size_t place = 0; place < numbers; ++place) lists.push_back(ends.at(place));
  const std::vector<std::vector<double>> on_host = wait_for(lists);
  const std::vector<int> microbatches = ends.microbatches();
  std::vector<double> mine;
  for (std::size_t i = 0; i < microbatches.size(); ++i) {
    mine.push_back(microbatches[i]);
    for (const std::vector<double>& of_place : on_host) mine.push_back(of_place[i]);
  }
  std::map<int, double> loss_of;
  Evaluation evaluation{0, std::vector<double>(metrics().size())};
  for (const std::vector<double>& theirs : all_gather(transport_, mine, input.step - 1)) {
    for (auto of = theirs.begin(); of != theirs.end();
         of += static_cast<std::ptrdiff_t>(numbers) + 1) {
      loss_of.emplace(static_cast<int>(of[0]), of[1]);
      for (std::size_t i = 0; i < metrics().size(); ++i)
        evaluation.counts[i] += of[static_cast<std::ptrdiff_t>(i) + 2];
    }
  }
  for (const auto& [microbatch, loss] : loss_of) evaluation.loss += loss;
  return evaluation;
}

}  // namespace headrace
