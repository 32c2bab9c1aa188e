#include "headrace/train/report.h"

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/tensor/devices.h"
#include "headrace/timeline/chrome.h"
#include "headrace/train/agreement.h"
#include "headrace/train/devices.h"
#include "headrace/train/evaluate.h"
#include "headrace/train/measured_timeline.h"
#include "headrace/train/summary.h"
#include "headrace/train/utilisation.h"
#include "headrace/transport/all_gather.h"

namespace headrace {

Report::Report(const Config& config, Transport& transport, Console* console)
    : config_(config), transport_(transport), console_(console) {}

void Report::opening(const Prepared& run) {
  const Plan& plan = run.trainer->pipeline().plan();
  if (transport_.rank() == 0 && !config_.run_dir.empty())
    folder_.emplace(config_, run.trainer->steps_done());
  if (run.places.claim) write_run_config(run.places.claim->folder(), config_);
  const std::string devices = devices_text(config_.pipeline, run.devices);
  say(opening_text(config_, plan, *run.samples, devices));
  if (!config_.laid_out.empty()) say("# laid out anew: " + config_.laid_out);
  if (!run.origin.empty())
    say(cat(run.trainer->steps_done() > 0 ? "# resumed: " : "# begins with the ", run.origin));
  if (folder_) say("# run folder: " + folder_->path().string());
  if (const std::string text = places_text(run.places, transport_); !text.empty()) say("# " + text);
  if (folder_ && folder_->records() < run.trainer->steps_done())
    say(cat("warning: metrics.jsonl holds ", folder_->records(), " records of the ",
            run.trainer->steps_done(), " steps before"));
  if (folder_ && plan.found) folder_->write("schedule.csv", to_csv(plan.found->schedule));
}

bool Report::lacks_evaluation(std::int64_t step) const {
  const bool lacks = folder_ && !folder_->has_evaluation(step);
  return all_gather(transport_, {lacks ? 1.0 : 0.0}, kAgreement)[0][0] > 0;
}

void Report::step(const TrainerStep& step, double seconds, double loss_scale) {
  events_ = step.events;
  clock_.add(transport_.rank(), step.events, step.makespan);
  StepRecord record = step.record;
  record.seconds = seconds;
  if (++steps_ == 2) {
    tokens_ = 0;
    seconds_ = 0;
  }
  tokens_ += record.tokens;
  seconds_ += seconds;
  if (folder_) folder_->record(record);
  if (console_ != nullptr) console_->step(record);
  if (!step.fault.empty()) return say("note: " + step.fault);
  if (record.skipped)
    say(cat("note: gradients of step ", record.step,
            " overflowed in fp16: nothing was updated; the loss scale is now ", loss_scale));
  if (record.spike)
    say(cat("note: the loss of step ", record.step, " is a spike: ", fixed_text(record.loss, 5),
            ", and lately it was ", fixed_text(step.usual_loss, 5)));
}

void Report::evaluation(const EvaluationRecord& record) {
  if (folder_) folder_->record(record);
  say(cat("validation after step ", record.step, ": ", to_text(record)));
}

void Report::say(std::string text) {
  if (text.ends_with('\n')) text.pop_back();  // as tables do
  if (console_ != nullptr) console_->line(text);
}

// Every rank computes at once, as in training.
std::string Report::utilisation(const Prepared& run) const {
  const int devices = count_devices(run.devices);
  const torch::ScalarType type = product_type(config_.train.precision);
  double product = 0;
  if (!stated_peak(device_name(transport_.device()), type)) {
    all_gather(transport_, {}, kStageTimes);
    const double mine = measured_product(transport_.device(), type);
    for (const std::vector<double>& theirs : all_gather(transport_, {mine}, kStageTimes))
      product += theirs.front() / devices;
  }
  if (seconds_ <= 0) return "";
  const double tokens = static_cast<double>(tokens_) / seconds_;
  const double flops =
      tokens * flops_per_token(run.trainer->pipeline().plan(), config_.model.transformer.context) /
      devices;
  return utilisation_text(tokens, flops, transport_.device(), type, product);
}

void Report::closing(const Prepared& run, const std::string& stopped) {
  const Plan& plan = run.trainer->pipeline().plan();
  const auto times = clock_.gather(transport_, peak_memory(transport_.device()), kStageTimes);
  const std::string used = utilisation(run);
  if (config_.timeline) {
    const Timeline timeline = gather_timeline(transport_, events_, plan.source.name);
    if (folder_) folder_->write("timeline.json", chrome_trace(timeline));
    say(cat("# timeline: of the last step; the ranks' clocks agree to within ",
            fixed_text(1e6 * timeline.clock_error, 1), " µs"));
  }
  if (console_ != nullptr) console_->finish();
  say(closing_table(config_, plan, times));
  if (!used.empty()) say("# speed: " + used);
  if (!stopped.empty())
    say(cat("stopped ", stopped, ", after step ", run.trainer->steps_done(), " of ",
            run.samples->steps()));
}

}  // namespace headrace
