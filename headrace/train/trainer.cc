#include "headrace/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <set>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/data/microbatches.h"
#include "headrace/train/agreement.h"
#include "headrace/train/stage_times.h"

namespace headrace {
namespace {

constexpr int kWholeRank = -1;

// The tensor of that name, which must be there and of that shape.
const torch::Tensor& tensor_of(const NamedTensors& tensors,
                               const std::string& name,
                               const torch::Tensor& like,
                               const char* what) {
  const auto found = tensors.find(name);
  check(found != tensors.end(), "there is no ", what, " of ", name);
  check(found->second.sizes() == like.sizes(), "the ", what, " of ", name, " has the shape ",
        torch::str(found->second.sizes()), ", and the model's has ", torch::str(like.sizes()));
  return found->second;
}

double number(const Snapshot& snapshot, const char* name, double otherwise) {
  const auto found = snapshot.numbers.find(name);
  return found == snapshot.numbers.end() ? otherwise : found->second;
}

}  // namespace

torch::ScalarType product_type(const std::string& precision) {
  return precision == "bf16"   ? torch::kBFloat16
         : precision == "fp16" ? torch::kFloat16
                               : torch::kFloat32;
}

Trainer::Trainer(const TrainerOptions& options,
                 const std::vector<LayerSpec>& model,
                 Plan plan,
                 Transport& transport)
    : options_(options),
      transport_(transport),
      pipeline_(model,
                std::move(plan),
                transport,
                {.seed = options.train.seed,
                 .device = options.device,
                 .precision = product_type(options.train.precision),
                 .sharded = options.shard_optimizer}),
      asynchronous_(is_asynchronous(schedule_of(
          pipeline_.plan(), static_cast<int>(options.train.microbatches), Pass::Train))),
      loss_scale_(options.train) {
  if (!asynchronous_) {
    parts_.push_back({kWholeRank, Optimizer(options.optimizer, pipeline_.to_update().values)});
    return;
  }
  for (const auto& stage : pipeline_.stages())
    parts_.push_back(
        {stage->index(), Optimizer(options.optimizer, pipeline_.to_update(stage->index()).values)});
}

ToUpdate Trainer::to_update(const Part& part) const {
  return part.stage == kWholeRank ? pipeline_.to_update() : pipeline_.to_update(part.stage);
}

void Trainer::update(Part& part, double rate) {
  const ToUpdate update = to_update(part);
  part.optimizer.step(rate, update.values, update.gradients);
}

std::string Trainer::meet_fault(const StepResult& result,
                                const StepInput& input,
                                const StepPolicy& policy) {
  std::string fault = cat("step ", done_ + 1, ": the loss is ", number_text(result.loss));
  check<AgreedError>(!asynchronous_, fault,
                     "; try a lower optimizer.learning_rate or more optimizer.warmup");
  fault += cat(" and the gradient norm ", number_text(result.norm),
               result.worst.empty() ? "" : ", first in " + result.worst, ": nothing was updated; ",
               pipeline_.find_fault(input, policy));
  if (loss_scale_.changes() && std::isfinite(result.loss))
    fault += "; in fp16 that is so with any loss scale: train with train.precision = \"bf16\"";
  check<AgreedError>(
      options_.train.not_finite == "skip", fault,
      "; try a lower optimizer.learning_rate or more optimizer.warmup, or go on without such "
      "steps: "
      "train.not_finite = \"skip\"");
  ++skipped_;
  check<AgreedError>(skipped_ < options_.train.skip_limit, fault, "; with it ", skipped_,
                     " steps in a row were skipped, and that is train.skip_limit");
  return fault;
}

TrainerStep Trainer::step(const Batch& batch, const StepHooks& hooks) {
  const Microbatches cut(batch, options_.train.microbatch, options_.device);
  const auto normaliser = [](std::int64_t tokens) {
    return tokens > 0 ? 1.0 / static_cast<double>(tokens) : 0;
  };
  const double rate = learning_rate(options_.optimizer, done_, options_.steps);
  const StepInput input{.step = done_,
                        .microbatches = cut.count(),
                        .inputs = [&](int m) { return cut.inputs(m); },
                        .targets = [&](int m) { return cut.targets(m); },
                        .before_action = hooks.before_action};
  StepPolicy policy{.normaliser = normaliser(cut.valid()),
                    .clip = options_.optimizer.clip,
                    .backward_scale = loss_scale_.value(),
                    .tell = hooks.tell};
  policy.normaliser_of_update = [&](const std::vector<int>& some) {
    return normaliser(cut.valid(some));
  };
  policy.update = [&](int stage) { update(*std::ranges::find(parts_, stage, &Part::stage), rate); };
  StepResult result = pipeline_.train(input, policy);

  const bool overflows = !result.finite && std::isfinite(result.loss) && loss_scale_.can_fall();
  std::string fault;
  if (!result.finite && !overflows) fault = meet_fault(result, input, policy);
  if (result.finite) skipped_ = 0;

  const Stopwatch& watch = pipeline_.watch();
  const Instant update_start = watch.take();
  if (!asynchronous_ && result.finite) {
    update(parts_.front(), rate);
    pipeline_.gradients().share_values(done_);
  }
  if (fault.empty()) loss_scale_.after_step(overflows);
  auto updated = std::optional(std::pair(update_start, watch.take()));
  if (watch.is_of_device()) updated.swap(unread_update_);

  TrainerStep step;
  step.events = pipeline_.events();
  const int first_stage = step.events.empty() ? 0 : step.events.front().action.stage;
  const auto note = [&](Kind kind, double from, double to) {
    step.events.push_back({{kind, first_stage, kOfAllStages}, from, to, 0, 0});
  };
  if (pipeline_.ownership().any_shared())
    note(Kind::ReduceGradients, result.reduce_start, result.reduce_end);
  if (!asynchronous_ && updated)
    note(Kind::Update, watch.seconds(updated->first), watch.seconds(updated->second));
  step.makespan = result.makespan;
  step.fault = std::move(fault);
  step.told = std::move(result.told);
  ++done_;
  step.record = {.step = done_,
                 .steps = options_.steps,
                 .loss = result.loss,
                 .norm = result.norm,
                 .rate = rate,
                 .tokens = cut.tokens(),
                 .skipped = !result.finite};
  if (std::isfinite(result.loss)) {
    step.record.spike = trend_.is_spike(result.loss);
    step.usual_loss = trend_.mean();
    trend_.add(result.loss);
  }
  return step;
}

Snapshot Trainer::snapshot(Share how) const {
  const torch::NoGradGuard no_grad;
  Snapshot share;
  share.step = done_;
  share.seed = options_.train.seed;
  share.numbers["updates"] = static_cast<double>(parts_.front().optimizer.updates());
  if (loss_scale_.changes()) {
    share.numbers["loss_scale"] = loss_scale_.value();
    share.numbers["loss_scale_good"] = loss_scale_.good();
  }
  share.numbers["loss_mean"] = trend_.mean();
  share.numbers["loss_deviation"] = trend_.deviation();
  share.numbers["losses"] = static_cast<double>(trend_.seen());
  share.numbers["skipped"] = static_cast<double>(skipped_);
  std::set<std::string> at_home;
  for (const std::size_t order : pipeline_.ownership().at_home(transport_.rank()))
    at_home.insert(pipeline_.ownership().parameters[order].name);
  for (const Part& part : parts_) {
    const ToUpdate all = to_update(part);
    const auto copy = [&](const Tensors& from, std::size_t i, NamedTensors& to) {
      if (from.empty()) return;
      const torch::Tensor tensor = from[i].detach();
      to.emplace(all.names[i], how == Share::Copied ? tensor.clone() : tensor);
    };
    for (std::size_t i = 0; i < all.names.size(); ++i) {
      if (!at_home.contains(all.names[i])) continue;
      copy(all.values, i, share.weights);
      copy(part.optimizer.first(), i, share.first);
      copy(part.optimizer.second(), i, share.second);
    }
  }
  return share;
}

void Trainer::set_weights(const NamedTensors& weights) {
  const torch::NoGradGuard no_grad;
  const Weights& own = pipeline_.weights();
  for (std::size_t i = 0; i < own.size(); ++i) {
    torch::Tensor value = own.value(i);
    value.copy_(tensor_of(weights, own.name(i), value, "weight"));
  }
  for (const auto& stage : pipeline_.stages()) stage->note_new_weights();
}

void Trainer::restore(const Snapshot& snapshot) {
  check(snapshot.seed == options_.train.seed, "the seed of the snapshot is ", snapshot.seed,
        ", and that of the run ", options_.train.seed);
  set_weights(snapshot.weights);
  const torch::NoGradGuard no_grad;
  for (Part& part : parts_) {
    const std::vector<std::string> names = to_update(part).names;
    const auto fill = [&](const Tensors& to, const NamedTensors& from, const char* what) {
      for (std::size_t i = 0; i < to.size(); ++i) {
        torch::Tensor tensor = to[i];
        tensor.copy_(tensor_of(from, names[i], tensor, what));
      }
    };
    fill(part.optimizer.first(), snapshot.first, "first moment");
    fill(part.optimizer.second(), snapshot.second, "second moment");
    part.optimizer.set_updates(static_cast<std::int64_t>(number(snapshot, "updates", 0)));
  }
  loss_scale_.set(number(snapshot, "loss_scale", loss_scale_.value()),
                  static_cast<int>(number(snapshot, "loss_scale_good", 0)));
  trend_.set(number(snapshot, "loss_mean", 0), number(snapshot, "loss_deviation", 0),
             static_cast<std::int64_t>(number(snapshot, "losses", 0)));
  skipped_ = static_cast<std::int64_t>(number(snapshot, "skipped", 0));
  done_ = snapshot.step;
}

}  // namespace headrace
