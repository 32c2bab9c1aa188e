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
#include "headrace/runtime/collect.h"

namespace headrace {
namespace {

// What each rank tells the others at the end of a step, as a list of numbers: the fixed part, then
// (microbatch, loss) pairs, then squared norms.
constexpr std::size_t kStop = 0, kStart = 1, kEnd = 2, kLosses = 3, kFixed = 4;

}  // namespace

Pipeline::Pipeline(Layout layout, Transport& transport, const PipelineOptions& options)
    : layout_(std::move(layout)), transport_(transport), options_(options) {
  check(transport.size() == layout_.placement.ranks, "the schedule is for ",
        layout_.placement.ranks, " ranks, but there are ", transport.size());
  std::vector<Stage*> stages;
  for (const int s : layout_.placement.stages_of(transport.rank())) {
    std::vector<std::unique_ptr<Layer>> layers;
    for (int i = layout_.starts[static_cast<std::size_t>(s)]; i < layout_.end(s); ++i)
      layers.push_back(layout_.model[static_cast<std::size_t>(i)].build(
          {.seed = options.seed, .device = options.device}));
    stages_.push_back(std::make_unique<Stage>(s, std::move(layers),
                                              layout_.recompute[static_cast<std::size_t>(s)]));
    stages.push_back(stages_.back().get());
  }
  std::vector<int> rank_of_layer;
  for (std::size_t i = 0; i < layout_.model.size(); ++i)
    rank_of_layer.push_back(layout_.placement.rank(layout_.stage_of(static_cast<int>(i)), 0));
  gradients_ = std::make_unique<Gradients>(transport, layout_.model, rank_of_layer, stages);
  executor_ = std::make_unique<Executor>(transport, layout_.placement, stages);
}

bool Pipeline::holds_first() const {
  return !stages_.empty() && stages_.front()->index() == 0;
}

bool Pipeline::holds_last() const {
  return !stages_.empty() && stages_.back()->index() + 1 == layout_.stages();
}

const Schedule& Pipeline::schedule(int microbatches, bool training) {
  const auto [found, is_new] = schedules_.try_emplace({microbatches, training});
  if (is_new) found->second = lowered_schedule(layout_, microbatches, training);
  return found->second;
}

Losses Pipeline::run(const Work& work, bool training) {
  Feed feed;
  feed.step = work.step;
  feed.training = training;
  feed.key = keyed(options_.seed, "dropout", work.step);
  feed.loss_scale = work.loss_scale;
  feed.inputs = [&](int microbatch) { return Tensors{work.inputs(microbatch)}; };
  feed.targets = work.targets;
  feed.on_action = work.on_action;
  return executor_->run(schedule(work.microbatches, training), feed);
}

StepResult Pipeline::train(const Work& work) {
  gradients_->zero();
  const Losses losses = run(work, true);
  gradients_->combine(work.step);

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
  for (const double square : gradients_->squared_norms()) mine.push_back(square);

  StepResult result;
  double start = std::numeric_limits<double>::infinity(), end = -start;
  std::map<int, double> loss_of;
  std::vector<std::vector<double>> norms;
  for (const std::vector<double>& theirs : collect(transport_, mine, work.step)) {
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

  std::string worst;
  result.norm = gradients_->total_norm(norms, &worst);
  check(std::isfinite(result.norm), "the gradient norm is ", result.norm, " at step ", work.step,
        " (loss ", result.loss, "), first in ", worst,
        ": nothing was updated; try a lower train.learning_rate, more train.warmup or a lower "
        "train.clip");
  if (work.clip > 0 && result.norm > work.clip) gradients_->scale(work.clip / result.norm);
  return result;
}

Evaluation Pipeline::evaluate(const Work& work) {
  const Losses losses = run(work, false);
  std::vector<double> mine;
  for (const auto& [microbatch, loss] : losses.loss) {
    mine.push_back(microbatch);
    mine.push_back(loss);
    mine.push_back(static_cast<double>(losses.correct.at(microbatch)));
  }
  std::map<int, double> loss_of;
  Evaluation evaluation;
  for (const std::vector<double>& theirs : collect(transport_, mine, work.step)) {
    for (std::size_t i = 0; i + 2 < theirs.size(); i += 3) {
      loss_of.emplace(static_cast<int>(theirs[i]), theirs[i + 1]);
      evaluation.correct += static_cast<std::int64_t>(theirs[i + 2]);
    }
  }
  for (const auto& [microbatch, loss] : loss_of) evaluation.loss += loss;
  return evaluation;
}

}  // namespace headrace
