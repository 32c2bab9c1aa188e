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
#include "headrace/schedule/versions.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/transport/all_gather.h"

namespace headrace {
namespace {

// What each rank tells the others at the end of a step, as a list of numbers: the fixed part, then
// (microbatch, loss) pairs, then squared norms.
constexpr std::size_t kStop = 0, kStart = 1, kEnd = 2, kLosses = 3, kFixed = 4;

}  // namespace

Pipeline::Pipeline(const std::vector<LayerSpec>& model,
                   Plan plan,
                   Transport& transport,
                   const PipelineOptions& options)
    : plan_(std::move(plan)), transport_(transport), options_(options) {
  check(transport.size() == plan_.placement.ranks, "the schedule is for ", plan_.placement.ranks,
        " ranks, but there are ", transport.size());
  std::vector<Stage*> stages;
  for (const int s : plan_.placement.stages_of(transport.rank())) {
    std::vector<std::unique_ptr<Layer>> layers;
    for (int i = plan_.starts[static_cast<std::size_t>(s)]; i < plan_.end(s); ++i) {
      const LayerSpec& spec = model[static_cast<std::size_t>(i)];
      try {
        layers.push_back(spec.build({.seed = options.seed, .device = options.device}));
      } catch (const std::exception& error) {
        throw Error(cat("rank ", transport.rank(), " cannot make layer ", spec.name, " of stage ",
                        s, ": ", text_of(error)));
      }
    }
    stages_.push_back(std::make_unique<Stage>(s, std::move(layers),
                                              plan_.recompute[static_cast<std::size_t>(s)]));
    stages.push_back(stages_.back().get());
  }
  gradients_ = std::make_unique<Gradients>(transport, plan_, stages, options.sharded);
  executor_ = std::make_unique<Executor>(transport, plan_.placement, stages);
}

bool Pipeline::holds_first() const {
  return !stages_.empty() && stages_.front()->index() == 0;
}

bool Pipeline::holds_last() const {
  return !stages_.empty() && stages_.back()->index() + 1 == plan_.stages();
}

const Schedule& Pipeline::schedule(int microbatches, bool training) {
  const auto [found, is_new] = schedules_.try_emplace({microbatches, training});
  if (is_new)
    found->second = schedule_of(plan_, microbatches, training ? Pass::Train : Pass::Evaluate);
  return found->second;
}

Feed Pipeline::feed_of(const Work& work, bool training) {
  Feed feed;
  feed.step = work.step;
  feed.training = training;
  feed.key = keyed(options_.seed, "dropout", work.step);
  feed.loss_scale = [scale = work.loss_scale](int) { return scale; };
  feed.inputs = [&](int microbatch) { return Tensors{work.inputs(microbatch)}; };
  feed.targets = work.targets;
  feed.gradient_scale = work.gradient_scale;
  feed.precision = options_.precision;
  feed.on_action = work.on_action;
  if (training) feed.on_reduce = [&](int stage) { gradients_->stage_done(stage, work.step); };
  return feed;
}

// Each stage keeps the weights that microbatches under way, and forwards to come, are computed
// with.
Losses Pipeline::run_asynchronous(const Work& work, const Schedule& schedule) {
  check(!gradients_->any_shared(),
        "an asynchronous schedule updates each stage at a time of its "
        "own, so that no parameter may have several owners: no tied embeddings, no replicas");
  check(work.gradient_scale == 1 && !work.may_overflow,
        "an asynchronous schedule has no step to leave out where fp16 "
        "overflows; set train.precision = \"bf16\"");
  check(work.clip == 0,
        "an asynchronous schedule has no norm of all gradients to clip by; set "
        "train.clip = 0");
  const std::vector<StageVersions> versions = weight_versions(schedule);
  // The update of a microbatch is the same on every stage.
  std::map<int, std::vector<int>> updates;
  const StageVersions& first = versions.front();
  const auto update_of = [&first](int m) {
    const auto at = static_cast<std::size_t>(m);
    return first.version[at] + first.staleness[at];
  };
  for (int m = 0; m < work.microbatches; ++m) updates[update_of(m)].push_back(m);
  std::map<int, double> scales;
  for (const auto& [update, microbatches] : updates)
    scales[update] = work.scale_of_update(microbatches);

  std::map<int, int> forwards, updated;  // by stage
  Feed feed = feed_of(work, true);
  feed.on_reduce = {};
  feed.loss_scale = [&](int m) { return scales.at(update_of(m)); };
  feed.version = [&](int stage, int m) {
    forwards[stage] = m + 1;
    return versions[static_cast<std::size_t>(stage)].version[static_cast<std::size_t>(m)];
  };
  feed.on_update = [&](int index) {
    const auto& wanted = versions[static_cast<std::size_t>(index)].version;
    const int now = updated[index]++;
    const auto next = static_cast<std::size_t>(forwards[index]);
    Stage& stage = **std::ranges::find(stages_, index, [](const auto& s) { return s->index(); });
    stage.next_version(next < wanted.size() && wanted[next] <= now);
    // Asked for first: it finds the newest version of the weights for whoever updates.
    const std::vector<OwnedParameter*> parameters = gradients_->of_stage(stage);
    work.update(index);
    for (OwnedParameter* parameter : parameters) parameter->gradient.zero_();
  };
  for (const auto& stage : stages_) stage->begin_versions();
  Losses losses = executor_->run(schedule, feed);
  for (auto& [microbatch, loss] : losses.loss) loss /= static_cast<double>(updates.size());
  return losses;
}

StepResult Pipeline::train(const Work& work) {
  gradients_->zero();
  const Schedule& plan = schedule(work.microbatches, true);
  const bool asynchronous = is_asynchronous(plan);
  StepResult result;
  Losses losses;
  if (asynchronous) {
    losses = run_asynchronous(work, plan);
  } else {
    losses = executor_->run(plan, feed_of(work, true));
    result.reduce_start = transport_.clock();
    gradients_->combine(work.step);
    result.reduce_end = transport_.clock();
  }

  std::vector<double> mine(kFixed);
  const std::vector<Event>& done = executor_->events();
  mine[kStop] = work.stop ? 1 : 0;
  mine[kStart] = done.empty() ? std::numeric_limits<double>::infinity() : done.front().start;
  mine[kEnd] = done.empty() ? -std::numeric_limits<double>::infinity() : done.back().end;
  mine[kLosses] = static_cast<double>(losses.loss.size());
  for (const auto& [microbatch, loss] : losses.loss) {
    mine.push_back(microbatch);
    mine.push_back(loss);
  }
  if (!asynchronous)
    for (const double square : gradients_->squared_norms()) mine.push_back(square);

  double start = std::numeric_limits<double>::infinity(), end = -start;
  std::map<int, double> loss_of;
  std::vector<std::vector<double>> norms;
  for (const std::vector<double>& theirs : all_gather(transport_, mine, work.step)) {
    result.stop = result.stop || theirs[kStop] > 0;
    start = std::min(start, theirs[kStart]);
    end = std::max(end, theirs[kEnd]);
    const auto pairs = static_cast<std::size_t>(theirs[kLosses]);
    for (std::size_t i = 0; i < pairs; ++i)
      loss_of.emplace(static_cast<int>(theirs[kFixed + 2 * i]), theirs[kFixed + 2 * i + 1]);
    norms.emplace_back(theirs.begin() + static_cast<std::ptrdiff_t>(kFixed + 2 * pairs),
                       theirs.end());
  }
  for (const auto& [microbatch, loss] : loss_of) result.loss += loss;
  result.makespan = end - start;

  if (asynchronous) {
    check(std::isfinite(result.loss), "the loss is ", result.loss, " at step ", work.step + 1,
          "; try a lower train.learning_rate or more train.warmup");
    result.norm = std::numeric_limits<double>::quiet_NaN();
    return result;
  }
  std::string worst;
  result.norm = gradients_->total_norm(norms, &worst) / work.gradient_scale;
  result.overflow = !std::isfinite(result.norm);
  if (result.overflow && work.may_overflow) return result;
  check(!result.overflow, "the gradient norm is ", result.norm, " at step ", work.step + 1,
        " (loss ", result.loss, "), first in ", worst,
        ": nothing was updated; try a lower train.learning_rate, more train.warmup or a lower "
        "train.clip");
  const double clip = work.clip > 0 && result.norm > work.clip ? work.clip / result.norm : 1;
  const double factor = clip / work.gradient_scale;
  if (factor != 1) gradients_->scale(factor);
  return result;
}

Evaluation Pipeline::evaluate(const Work& work) {
  const Losses losses = executor_->run(schedule(work.microbatches, false), feed_of(work, false));
  std::vector<double> mine;
  for (const auto& [microbatch, loss] : losses.loss) {
    mine.push_back(microbatch);
    mine.push_back(loss);
    mine.push_back(static_cast<double>(losses.correct.at(microbatch)));
  }
  std::map<int, double> loss_of;
  Evaluation evaluation;
  for (const std::vector<double>& theirs : all_gather(transport_, mine, work.step - 1)) {
    for (std::size_t i = 0; i + 2 < theirs.size(); i += 3) {
      loss_of.emplace(static_cast<int>(theirs[i]), theirs[i + 1]);
      evaluation.correct += static_cast<std::int64_t>(theirs[i + 2]);
    }
  }
  for (const auto& [microbatch, loss] : loss_of) evaluation.loss += loss;
  return evaluation;
}

}  // namespace headrace
