#include "headrace/train/loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/keyed.h"
#include "headrace/base/text.h"
#include "headrace/model/gpt.h"
#include "headrace/tensor/memory.h"
#include "headrace/timeline/chrome.h"
#include "headrace/train/loss_scale.h"
#include "headrace/train/optimizer.h"
#include "headrace/train/run_folder.h"
#include "headrace/train/samples.h"
#include "headrace/train/stage_times.h"
#include "headrace/train/summary.h"
#include "headrace/train/trainable.h"
#include "headrace/transport/all_gather.h"

namespace headrace {
namespace {

// Messages outside the steps are labelled with numbers below the first step's.
constexpr std::int64_t kAgreement = -1, kStageTimes = -2, kTimeline = -3;

// The first lines in which two texts differ; equal where the texts are.
std::pair<std::string, std::string> first_difference(const std::string& a, const std::string& b) {
  std::istringstream lines_a(a), lines_b(b);
  std::string line_a, line_b;
  while (true) {
    const bool more_a = static_cast<bool>(std::getline(lines_a, line_a));
    const bool more_b = static_cast<bool>(std::getline(lines_b, line_b));
    if (!more_a) line_a.clear();
    if (!more_b) line_b.clear();
    if (line_a != line_b || (!more_a && !more_b)) return {line_a, line_b};
  }
}

// Ranks that would train on different things are refused before the first step.
void require_agreement(Transport& transport, const std::string& what, const std::string& mine) {
  const std::vector<std::string> all = all_gather_text(transport, mine, kAgreement);
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    const auto [first, other] = first_difference(all[0], all[rank]);
    check(first == other, "ranks were given different ", what, ": rank 0 (", transport.host(0),
          ") has ", first, ", rank ", rank, " (", transport.host(static_cast<int>(rank)), ") has ",
          other);
  }
}

// Part `index` of a batch cut into microbatches of at most `rows` rows.
torch::Tensor slice(const torch::Tensor& batch, std::int64_t index, std::int64_t rows) {
  return batch.narrow(0, index * rows, std::min(rows, batch.size(0) - index * rows));
}

int parts(std::int64_t total, std::int64_t size) {
  return static_cast<int>((total + size - 1) / size);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Timeline gather_timeline(Transport& transport,
                         const std::vector<Event>& events,
                         const std::string& name) {
  constexpr std::size_t kNumbers = 7;
  std::vector<double> mine;
  for (const Event& e : events) {
    const std::vector<double> numbers = {static_cast<double>(e.action.kind),
                                         static_cast<double>(e.action.stage),
                                         static_cast<double>(e.action.microbatch),
                                         e.start,
                                         e.end,
                                         e.wait,
                                         e.transfer};
    mine.insert(mine.end(), numbers.begin(), numbers.end());
  }
  mine.insert(mine.begin(), transport.clock_error());
  Timeline timeline{name, true, {}, 0};
  double worst = 0, second = 0;  // errors against rank 0's clock
  for (const std::vector<double>& theirs : all_gather(transport, mine, kTimeline)) {
    auto& rank = timeline.ranks.emplace_back();
    second = std::max(second, std::min(worst, theirs[0]));
    worst = std::max(worst, theirs[0]);
    timeline.clock_error = worst + second;
    for (std::size_t i = 1; i + kNumbers <= theirs.size(); i += kNumbers) {
      const double* n = &theirs[i];
      rank.push_back({{static_cast<Kind>(n[0]), static_cast<int>(n[1]), static_cast<int>(n[2])},
                      n[3],
                      n[4],
                      n[5],
                      n[6]});
    }
  }
  return timeline;
}

torch::ScalarType type_of(const std::string& precision) {
  return precision == "bf16"   ? torch::kBFloat16
         : precision == "fp16" ? torch::kFloat16
                               : torch::kFloat32;
}

constexpr int kWholeRank = -1;

// One rank's run, step after step.
class Run {
 public:
  Run(const Config& config, Transport& transport, const TrainingHooks& hooks)
      : config_(config),
        transport_(transport),
        hooks_(hooks),
        samples_(config),
        pipeline_(gpt(config.model),
                  plan_of(config),
                  transport,
                  {.seed = config.train.seed,
                   .precision = type_of(config.train.precision),
                   .sharded = config.pipeline.shard_optimizer}),
        asynchronous_(is_asynchronous(
            training_schedule(pipeline_.plan(), static_cast<int>(config.train.microbatches)))),
        loss_scale_(config.train) {
    make_optimizers();
    transport_.set_limit(config.pipeline.start_limit);
    // An epoch's last, smaller batch may be too small for the schedule: found now, not at the end
    // of the epoch.
    training_schedule(pipeline_.plan(), parts(samples_.fewest_rows(), config.train.microbatch));
    require_agreement(transport, "data", samples_.fingerprint());
    require_agreement(transport, "configurations", to_toml(config));
    if (pipeline_.plan().found) require_agreement(transport, "schedules", searched_order());
    if (transport.rank() == 0 && !config.run_dir.empty()) folder_.emplace(config);
    say(opening_text(config, pipeline_.plan(), samples_));
    if (folder_) say("# run folder: " + folder_->path().string());
    if (folder_ && pipeline_.plan().found)
      folder_->write("schedule.csv", to_csv(pipeline_.plan().found->schedule));
  }

  TrainingResult all() {
    TrainingResult result;
    const std::int64_t steps = samples_.steps();
    std::int64_t done = 0;
    while (done < steps && !result.stopped) {
      const StepResult step = train(done);
      ++done;
      result.losses.push_back(step.loss);
      result.norms.push_back(step.norm);
      result.stopped = step.stop;
      if (done == 1) transport_.set_limit(config_.pipeline.step_limit);
      const std::int64_t every = config_.train.evaluate_every;
      if (every > 0 && done % every == 0 && done < steps && !result.stopped) evaluate(done, result);
    }
    if (!result.stopped) evaluate(done, result);
    finish(result, done);
    return result;
  }

 private:
  StepResult train(std::int64_t step) {
    const auto start = std::chrono::steady_clock::now();
    const Batch batch = samples_.of_step(step);
    const std::int64_t rows = config_.train.microbatch;
    const std::int64_t valid = batch.targets.ne(-100).sum().item<std::int64_t>();
    Work work;
    work.step = step;
    work.microbatches = parts(batch.inputs.size(0), rows);
    work.inputs = [&](int m) { return slice(batch.inputs, m, rows); };
    work.targets = [&](int m) { return slice(batch.targets, m, rows); };
    work.loss_scale = valid > 0 ? 1.0 / static_cast<double>(valid) : 0;
    work.clip = config_.train.clip;
    work.gradient_scale = loss_scale_.value();
    work.may_overflow = loss_scale_.changes();
    work.stop = hooks_.stop_requested && hooks_.stop_requested();
    const double rate = learning_rate(config_.train, step, samples_.steps());
    work.scale_of_update = [&](const std::vector<int>& microbatches) {
      std::int64_t tokens = 0;
      for (const int m : microbatches)
        tokens += slice(batch.targets, m, rows).ne(-100).sum().item<std::int64_t>();
      return tokens > 0 ? 1.0 / static_cast<double>(tokens) : 0;
    };
    work.update = [&](int stage) { optimizers_.at(stage).step(rate); };
    if (hooks_.on_action)
      work.on_action = [&](const Action& action) { hooks_.on_action(step, action); };
    const StepResult result = pipeline_.train(work);
    if (hooks_.after_gradients) hooks_.after_gradients(step, pipeline_);

    const double update_start = transport_.clock();
    if (!asynchronous_ && !result.overflow) {
      optimizers_.at(kWholeRank).step(rate);
      pipeline_.gradients().share_values(step);
    }
    loss_scale_.after_step(result.overflow);
    const double update_end = transport_.clock();
    events_ = pipeline_.events();
    clock_.add(transport_.rank(), events_, result.makespan, result.reduce_end - result.reduce_start,
               update_end - update_start);
    const int first_stage = events_.empty() ? 0 : events_.front().action.stage;
    const auto note = [&](Kind kind, double from, double to) {
      events_.push_back({{kind, first_stage, -1}, from, to, 0, 0});
    };
    if (pipeline_.gradients().any_shared())
      note(Kind::ReduceGradients, result.reduce_start, result.reduce_end);
    if (!asynchronous_) note(Kind::Update, update_start, update_end);

    const StepLine line{.step = step + 1,
                        .steps = samples_.steps(),
                        .loss = result.loss,
                        .norm = result.norm,
                        .rate = rate,
                        .tokens = batch.inputs.numel(),
                        .seconds = seconds_since(start)};
    if (folder_) folder_->record(line);
    if (hooks_.console != nullptr) hooks_.console->step(line);
    if (result.overflow)
      say(cat("note: gradients of step ", step + 1,
              " overflowed in fp16: nothing was updated; the "
              "loss scale is now ",
              loss_scale_.value()));
    return result;
  }

  // One for the rank, or, where stages are updated each at its own time, one for each of them.
  void make_optimizers() {
    if (!asynchronous_) {
      optimizers_.try_emplace(kWholeRank, config_.train, pipeline_.gradients().to_update());
      return;
    }
    for (const auto& stage : pipeline_.stages())
      optimizers_.try_emplace(stage->index(), config_.train,
                              pipeline_.gradients().of_stage(*stage));
  }

  void evaluate(std::int64_t done, TrainingResult& result) {
    const std::int64_t sequences = samples_.evaluation_samples();
    if (sequences == 0) return say("no validation: data.validation is 0");
    if (hooks_.on_evaluation) hooks_.on_evaluation();
    const std::int64_t wanted = config_.train.evaluate_microbatch > 0
                                    ? config_.train.evaluate_microbatch
                                    : config_.train.microbatch;
    const std::int64_t rows = std::min(wanted, sequences);
    const Batch batch = samples_.for_evaluation(0, sequences);
    Work work;
    work.step = done;
    work.microbatches = parts(sequences, rows);
    work.inputs = [&](int m) { return slice(batch.inputs, m, rows); };
    work.targets = [&](int m) { return slice(batch.targets, m, rows); };
    if (hooks_.on_action)
      work.on_action = [&](const Action& action) { hooks_.on_action(done - 1, action); };
    const Evaluation sums = pipeline_.evaluate(work);
    const auto tokens = static_cast<double>(batch.targets.ne(-100).sum().item<std::int64_t>());
    result.validation_loss = sums.loss / tokens;
    check(std::isfinite(result.validation_loss), "the validation loss is ", result.validation_loss,
          " after step ", done, "; try a lower train.learning_rate or more train.warmup");
    result.accuracy = static_cast<double>(sums.correct) / tokens;
    const double perplexity = std::exp(result.validation_loss);
    if (folder_)
      folder_->record_evaluation(done, result.validation_loss, perplexity, result.accuracy);
    say(cat("validation after step ", done, ": loss ", fixed_text(result.validation_loss, 4),
            ", perplexity ", fixed_text(perplexity, 3), ", next-token accuracy ",
            fixed_text(100 * result.accuracy, 2), "%"));
  }

  // The last update has no step after it that would find out.
  void require_finite_weights(std::int64_t done) {
    for (const OwnedParameter& parameter : pipeline_.gradients().parameters())
      check(torch::isfinite(parameter.value).all().item<bool>(), "the weights ", parameter.name,
            " are not finite after step ", done,
            "; try a lower train.learning_rate or more train.warmup");
  }

  // What `auto` has found: a whole number for each schedule of the run, short and good enough.
  std::string searched_order() const {
    const Schedule last = training_schedule(
        pipeline_.plan(), parts(samples_.fewest_rows(), config_.train.microbatch));
    return cat("order ", keyed(0, to_csv(pipeline_.plan().found->schedule)), " ",
               keyed(0, to_csv(last)), ", found by pipeline.schedule 'auto'");
  }

  void finish(const TrainingResult& result, std::int64_t done) {
    require_finite_weights(done);
    const auto times = clock_.gather(transport_, memory_account().peak(), kStageTimes);
    if (config_.timeline) {
      const Timeline timeline = gather_timeline(transport_, events_, pipeline_.plan().source.name);
      if (folder_) folder_->write("timeline.json", chrome_trace(timeline));
      say(cat("# timeline: of the last step; the ranks' clocks agree to within ",
              fixed_text(1e6 * timeline.clock_error, 1), " µs"));
    }
    if (hooks_.console != nullptr) hooks_.console->finish();
    say(closing_table(config_, pipeline_.plan(), times));
    if (result.stopped) say(cat("stopped as asked, after step ", done, " of ", samples_.steps()));
  }

  void say(std::string text) {
    if (text.ends_with('\n')) text.pop_back();  // as tables do
    if (hooks_.console != nullptr) hooks_.console->line(text);
  }

  const Config& config_;
  Transport& transport_;
  const TrainingHooks& hooks_;
  Samples samples_;
  Pipeline pipeline_;
  const bool asynchronous_;
  LossScale loss_scale_;
  std::map<int, Optimizer> optimizers_;  // by stage
  std::optional<RunFolder> folder_;
  StageClock clock_;
  std::vector<Event> events_;  // of the last step
};

}  // namespace

TrainingResult run_training(const Config& config,
                            Transport& transport,
                            const TrainingHooks& hooks) {
  Run run(config, transport, hooks);
  return run.all();
}

}  // namespace headrace
