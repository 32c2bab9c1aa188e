#include "headrace/train/prepare.h"

#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/base/keyed.h"
#include "headrace/base/text.h"
#include "headrace/data/microbatches.h"
#include "headrace/model/hugging_face/hugging_face.h"
#include "headrace/model/transformer.h"
#include "headrace/train/agreement.h"
#include "headrace/train/devices.h"
#include "headrace/train/predicted_memory.h"
#include "headrace/train/resume.h"
#include "headrace/train/trainable.h"

namespace headrace {
namespace {

// A checksum has more digits than a double: its halves.
constexpr const char* kTokens = "data_tokens";
constexpr const char* kLow = "data_checksum_low";
constexpr const char* kHigh = "data_checksum_high";

std::map<std::string, double> numbers_of(const TokenFile& file) {
  return {{kTokens, static_cast<double>(file.size())},
          {kLow, static_cast<double>(file.checksum() & 0xffffffffU)},
          {kHigh, static_cast<double>(file.checksum() >> 32U)}};
}

std::uint64_t checksum_of(const std::map<std::string, double>& numbers) {
  return (static_cast<std::uint64_t>(numbers.at(kHigh)) << 32U) |
         static_cast<std::uint64_t>(numbers.at(kLow));
}

std::string text_of(const std::map<std::string, double>& numbers) {
  std::ostringstream text;
  text << count_text(static_cast<std::int64_t>(numbers.at(kTokens))) << " tokens, checksum "
       << std::hex << checksum_of(numbers);
  return text.str();
}

// The order of samples, and so the place in it, is that of these tokens alone.
void require_same_data(const Config& config, const Resumed& from, const TokenFile& file) {
  const std::map<std::string, double>& theirs = from.snapshot.numbers;
  const std::map<std::string, double> ours = numbers_of(file);
  for (const auto& [name, number] : ours) {
    const auto found = theirs.find(name);
    check(found != theirs.end(), from.folder.string(), " does not say which data it is of: ", name,
          " is missing in its state");
  }
  check(text_of(theirs) == text_of(ours), config.data.tokens.empty() ? "data.text" : "data.tokens",
        " is ", file.path().string(), " (", text_of(ours), "), and that of ", from.folder.string(),
        " was another (", text_of(theirs),
        "); give it the same data, or begin a new run with its weights: model.from = \"",
        from.folder.string(), "\"");
}

// What `auto` has found: a whole number for each schedule of the run, short and good enough.
std::string searched_order(const Plan& plan, int fewest_microbatches) {
  return cat("order ", keyed(0, to_csv(plan.found->schedule)), " ",
             keyed(0, to_csv(training_schedule(plan, fewest_microbatches))),
             ", found by pipeline.schedule 'auto'");
}

}  // namespace

Prepared prepare(const Config& config,
                 Transport& transport,
                 const DeviceChoice& choice,
                 const std::function<void(const std::string&)>& say) {
  Prepared run;
  run.devices = gather_devices(transport, choice);
  require_devices(config.pipeline, run.devices);
  run.naming = naming_of(config.model.transformer);
  run.places = agree_on_places(config, transport);
  const Plan plan = plan_of(config);
  use_device(transport.device());
  set_deterministic(config.train.deterministic, transport.device());
  require_device_memory(run.devices, transport,
                        predicted_memory(config, plan)[static_cast<std::size_t>(transport.rank())]);
  std::optional<Resumed> from;
  Start start;
  if (config.resume != Resume::No) from = read_newest(config, plan, run.naming, transport, say);
  if (from) start = {from->snapshot.step, from->snapshot.samples};
  run.samples = std::make_unique<Samples>(config, start);
  if (from) require_same_data(config, *from, run.samples->file());
  check(start.step < run.samples->steps(), "the run has done ", start.step, " steps, and ",
        config.train.epochs > 0 ? cat("train.epochs ", config.train.epochs, " leaves")
                                : cat("train.steps ", config.train.steps, " leaves"),
        " nothing to do; give more");
  // An epoch's last, smaller batch may be too small for the schedule: found now, not at the end
  // of the epoch.
  const int fewest = microbatch_count(run.samples->fewest_rows(), config.train.microbatch);
  training_schedule(plan, fewest);
  require_agreement(transport, "data", run.samples->fingerprint());
  require_agreement(transport, "configurations", to_toml(config));
  if (plan.found) require_agreement(transport, "schedules", searched_order(plan, fewest));
  run.trainer =
      std::make_unique<Trainer>(TrainerOptions{.train = config.train,
                                               .optimizer = config.optimizer,
                                               .shard_optimizer = config.pipeline.shard_optimizer,
                                               .device = transport.device(),
                                               .steps = run.samples->steps()},
                                transformer(config.model.transformer), plan, transport);
  if (from) {
    run.trainer->restore(from->snapshot);
    run.origin = cat(from->folder.string(), ", after step ", start.step);
  } else if (!config.model.from.empty()) {
    run.trainer->set_weights(read_initial_weights(config, plan, run.naming, transport.rank()));
    run.origin = cat("weights of ", config.model.from);
  }
  return run;
}

Snapshot snapshot_of(const Prepared& run, Trainer::Share how) {
  Snapshot share = run.trainer->snapshot(how);
  share.samples = run.samples->first_sample(share.step);
  share.numbers.merge(numbers_of(run.samples->file()));
  return share;
}

}  // namespace headrace
