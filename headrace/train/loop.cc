#include "headrace/train/loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/text.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/model/hugging_face/hugging_face.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/tensor/to_host.h"
#include "headrace/train/agreement.h"
#include "headrace/train/checkpoints.h"
#include "headrace/train/copies.h"
#include "headrace/train/devices.h"
#include "headrace/train/evaluate.h"
#include "headrace/train/prepare.h"
#include "headrace/train/report.h"
#include "headrace/train/tokenizer_files.h"

namespace headrace {
namespace {

// What a rank tells the others: why it would end the run after this step.
constexpr double kLate = 1, kAsked = 2;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// With the special tokens of the model that the run began with.
std::string model_config_json(const Config& config) {
  const std::filesystem::path theirs = std::filesystem::path(config.model.from) / kModelConfigFile;
  if (config.model.from.empty() || !std::filesystem::exists(theirs))
    return config_json(config.model.transformer);
  return config_json(config.model.transformer, read_file(theirs.string()));
}

std::unique_ptr<Checkpoints> checkpoints_of(const Config& config,
                                            const Prepared& run,
                                            Transport& transport,
                                            const Checkpoints::Say& say) {
  if (run.places.checkpoints.folder.empty()) return nullptr;
  return std::make_unique<Checkpoints>(
      config.checkpoint, run.places.checkpoints, run.naming,
      CheckpointTexts{model_config_json(config), to_toml(config), tokenizer_files(config)},
      transport, config.pipeline.start_limit, say);
}

// The last update has no step after it that would find out.
void require_finite_weights(Trainer& trainer, Transport& transport) {
  const Weights& weights = trainer.pipeline().weights();
  Tensors flags;
  for (std::size_t i = 0; i < weights.size(); ++i)
    flags.push_back(torch::isfinite(weights.value(i)).all());
  transport.await(Mark::now(transport.device()));
  const std::vector<double> finite = to_host({flags}).front();
  for (std::size_t i = 0; i < weights.size(); ++i)
    check(finite[i] > 0, "the weights ", weights.name(i), " are not finite after step ",
          trainer.steps_done(), "; try a lower optimizer.learning_rate or more optimizer.warmup");
}

// `good`: the last step after which copies were equal; 0: none was looked at.
void require_equal_copies(Trainer& trainer, Transport& transport, std::int64_t good) {
  const std::int64_t done = trainer.steps_done();
  const std::string differing = differing_copies(trainer.pipeline(), transport, done - 1);
  check<AgreedError>(
      differing.empty(), "after step ", done, " the weight ", differing, "; ",
      good > 0
          ? cat("after step ", good,
                " all copies were the same, so that a checkpoint of that step or before is good")
          : std::string("they were not compared before, since these ranks have started"),
      ": a processor or memory of these ranks' machines has failed (train.verify_every)");
}

std::optional<EvaluationRecord> evaluate_now(const Config& config,
                                             const Prepared& run,
                                             const TrainingHooks& hooks,
                                             Report& report) {
  const std::int64_t sequences = run.samples->evaluation_samples();
  if (sequences == 0) {
    report.say("no validation: data.validation is 0");
    return std::nullopt;
  }
  if (hooks.on_evaluation) hooks.on_evaluation();
  const std::int64_t wanted =
      config.evaluate.microbatch > 0 ? config.evaluate.microbatch : config.train.microbatch;
  const EvaluationRecord record =
      evaluate(run.trainer->pipeline(), run.samples->for_evaluation(0, sequences),
               std::min(wanted, sequences), run.trainer->steps_done(), hooks.on_action);
  check<AgreedError>(std::isfinite(record.loss) || config.train.not_finite == "skip",
                     "the validation loss is ", number_text(record.loss), " after step ",
                     record.step, "; try a lower optimizer.learning_rate or more optimizer.warmup");
  report.evaluation(record);
  return record;
}

// Until all steps are done, or one is asked to stop.
TrainingResult train(const Config& config,
                     const Prepared& run,
                     Transport& transport,
                     const TrainingHooks& hooks,
                     Checkpoints* checkpoints,
                     Report& report,
                     std::chrono::steady_clock::time_point begin) {
  Trainer& trainer = *run.trainer;
  TrainingResult result;
  const std::int64_t every = config.evaluate.every;
  // A run that was asked to stop did not stay for it.
  if (trainer.steps_done() > 0 && every > 0 && trainer.steps_done() % every == 0 &&
      report.lacks_evaluation(trainer.steps_done()))
    evaluate_now(config, run, hooks, report);
  std::int64_t verified = 0;  // the last step after which copies were compared
  bool first = true;
  double longest = 0;  // step, in seconds
  while (trainer.steps_done() < run.samples->steps() && result.stopped.empty()) {
    const auto start = std::chrono::steady_clock::now();
    if (hooks.on_step) hooks.on_step(trainer.steps_done() + 1);
    const bool asked = hooks.stop_requested && hooks.stop_requested();
    const double limit = config.train.time_limit;
    const bool late = limit > 0 && seconds_since(begin) + 2 * longest > limit;
    std::vector<double> tell = {asked ? kAsked : late ? kLate : 0};
    if (checkpoints) {
      const std::vector<double> theirs = checkpoints->tell();
      tell.insert(tell.end(), theirs.begin(), theirs.end());
    }
    TrainerStep step = trainer.step(run.samples->of_step(trainer.steps_done()),
                                    {.before_action = hooks.on_action, .tell = tell});
    report.step(step, seconds_since(start), trainer.loss_scale().value());
    longest = std::max(longest, seconds_since(start));
    double wish = 0;
    for (std::vector<double>& told : step.told) {
      wish = std::max(wish, told.front());
      told.erase(told.begin());
    }
    const std::int64_t done = trainer.steps_done();
    if (wish == kAsked) result.stopped = "as asked";
    if (wish == kLate && done < run.samples->steps()) result.stopped = "at train.time_limit";
    if (checkpoints) checkpoints->hear(done, step.told);
    if (const std::int64_t by = config.train.verify_every; by > 0 && done % by == 0) {
      require_equal_copies(trainer, transport, verified);
      verified = done;
    }
    if (first) transport.set_limit(config.pipeline.step_limit);
    first = false;
    const bool more = done < run.samples->steps() && result.stopped.empty();
    if (more && every > 0 && done % every == 0)
      result.evaluation = evaluate_now(config, run, hooks, report);
    if (more && checkpoints && checkpoints->due(done))
      checkpoints->begin(snapshot_of(run, Trainer::Share::Copied));
  }
  if (result.stopped.empty()) result.evaluation = evaluate_now(config, run, hooks, report);
  result.steps_done = trainer.steps_done();
  return result;
}

}  // namespace

namespace {

TrainingResult run(const Config& config, Transport& transport, const TrainingHooks& hooks) {
  const auto begin = std::chrono::steady_clock::now();
  transport.set_limit(config.pipeline.start_limit);
  Report report(config, transport, hooks.console);
  const auto say = [&](const std::string& text) { report.say(text); };
  const Prepared prepared = prepare(config, transport, hooks.choice, say);
  const auto checkpoints = checkpoints_of(config, prepared, transport, say);
  report.opening(prepared);
  TrainingResult result;
  try {
    result = train(config, prepared, transport, hooks, checkpoints.get(), report, begin);
  } catch (const AgreedError&) {
    if (checkpoints) checkpoints->finish(false);
    throw;
  }
  require_finite_weights(*prepared.trainer, transport);
  if (checkpoints) {
    if (hooks.on_saving) hooks.on_saving();
    checkpoints->finish(false);
    const bool wanted = config.checkpoint.at_end || checkpoints->due(result.steps_done);
    if (wanted && checkpoints->newest() != result.steps_done) {
      checkpoints->begin(snapshot_of(prepared, Trainer::Share::Lent));
      checkpoints->finish(true);
    }
  }
  report.closing(prepared, result.stopped);
  return result;
}

}  // namespace

TrainingResult run_training(const Config& config,
                            Transport& transport,
                            const TrainingHooks& hooks) {
  try {
    return run(config, transport, hooks);
  } catch (const MemoryError& error) {
    throw Error(cat(error.what(), "; ", memory_advice()));
  } catch (const DeterminismError& error) {
    throw Error(cat(error.what(), "; set train.deterministic = false to have it all the same"));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    if (!is_of_memory(error)) throw;
    throw Error(cat("rank ", transport.rank(), host_text(transport, transport.rank()), ": ",
                    text_of(error), "; ", memory_advice()));
  }
}

}  // namespace headrace
