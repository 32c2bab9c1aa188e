#include "headrace/train/resume.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/base/faults.h"
#include "headrace/base/file.h"
#include "headrace/base/text.h"
#include "headrace/checkpoint/files.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/read.h"
#include "headrace/checkpoint/state.h"
#include "headrace/launch/run_claim.h"
#include "headrace/model/hugging_face/hugging_face.h"
#include "headrace/runtime/ownership.h"
#include "headrace/train/agreement.h"
#include "headrace/train/config/keys.h"
#include "headrace/train/config/value.h"
#include "headrace/train/read_share.h"
#include "headrace/transport/all_gather.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

// What the settings, and not the run, say.
class Given {
 public:
  explicit Given(const std::vector<std::string>& settings) {
    for (const std::string& setting : settings)
      keys_.emplace(trim(setting.substr(0, setting.find('='))));
  }
  bool operator()(const std::string& key) const { return keys_.contains(key); }
  bool any(std::initializer_list<const char*> keys) const {
    return std::ranges::any_of(keys, [&](const char* key) { return (*this)(key); });
  }

 private:
  std::set<std::string, std::less<>> keys_;
};

void derive_anew(Config& config, const Given& given) {
  TrainConfig& train = config.train;
  if (given.any({"train.batch", "train.microbatch", "train.microbatches"})) {
    const bool keeps_size = given("train.batch") && !given("train.microbatches");
    if (!given("train.batch") && given("train.microbatch") && given("train.microbatches"))
      train.batch = 0;
    else if (given("train.microbatch") || keeps_size)
      train.microbatches = 0;
    else
      train.microbatch = 0;
  }
  PipelineConfig& pipeline = config.pipeline;
  if (given.any({"pipeline.ranks", "pipeline.schedule", "pipeline.stages_per_rank"})) {
    pipeline.balance.clear();
    pipeline.split.clear();
    if (!given("pipeline.stages_per_rank")) pipeline.stages_per_rank = 0;
  }
  if (given.any({"pipeline.balance", "pipeline.split"}) && !given("pipeline.ranks"))
    pipeline.ranks = 0;
}

// Of two models, told by the settings.
void compare_models(const TransformerConfig& theirs,
                    const TransformerConfig& ours,
                    const std::string& where,
                    Faults& faults) {
  const auto config_of = [](const TransformerConfig& model) {
    Config config;
    config.model.transformer = model;
    return config;
  };
  const Config given_theirs = config_of(theirs), given_ours = config_of(ours);
  const Config of_theirs = config_of(filled(theirs)), of_ours = config_of(filled(ours));
  for (const Key& key : keys()) {
    // Dropout is of the run, not of its weights.
    if (key.section != "model" || key.name == "dropout") continue;
    // What follows from the others is no fault of its own.
    if (is_unset(key, given_theirs) && is_unset(key, given_ours)) continue;
    const Value is = key.get(of_theirs), wanted = key.get(of_ours);
    faults.check(is == wanted, key.full_name(), " is ", toml_text(wanted), ", and that of ", where,
                 " is ", toml_text(is));
  }
}

// Newest first: where the run has written them, and where it is to from now on.
std::vector<FoundCheckpoint> candidates(const Config& config) {
  std::vector<FoundCheckpoint> all = list_checkpoints(config.resume_from);
  if (checkpoint_directory(config) != config.resume_from)
    for (FoundCheckpoint& found : list_checkpoints(checkpoint_directory(config)))
      all.push_back(std::move(found));
  std::ranges::stable_sort(all, std::greater(), &FoundCheckpoint::step);
  return all;
}

// What is wrong with the small files that everything else is judged by; "" for nothing.
std::string fault_of_texts(const fs::path& folder) {
  try {
    const Manifest manifest = read_manifest(folder);
    for (const char* name : {kRunConfigFile, kModelConfigFile, kStateFile}) {
      const FileRecord* record = find(manifest, name);
      if (record == nullptr) return cat(kManifestFile, " does not list ", name);
      const MappedFile file(folder / name);
      if (checksum_of(file.bytes()) != record->checksum) return cat(name, " is damaged");
    }
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

// Why a run cannot go on from it; "" for nothing. `parts`: other hosts may have the shards that it lacks.
std::string fault_of(const FoundCheckpoint& found, bool parts) {
  if (!found.complete && (!parts || found.lacks.empty())) return found.why;
  return fault_of_texts(found.path);
}

// What it holds must be what the run goes on with.
void require_fits(const Config& config, const FoundCheckpoint& checkpoint) {
  const std::string where = checkpoint.path.string();
  const Config saved =
      parse_config(read_file((checkpoint.path / kRunConfigFile).string()), where, {});
  Faults faults;
  compare_models(saved.model.transformer, config.model.transformer, where, faults);
  const auto same = [&](const char* name, const auto& is, const auto& wanted) {
    faults.check(is == wanted, name, " is ", wanted, ", and that of ", where, " is ", is);
  };
  same("data.tokenizer", saved.data.tokenizer, config.data.tokenizer);
  same("data.end_token", saved.data.end_token, config.data.end_token);
  same("data.validation", saved.data.validation, config.data.validation);
  same("train.seed", saved.train.seed, config.train.seed);
  same("optimizer.kind", saved.optimizer.kind, config.optimizer.kind);
  faults.check((saved.optimizer.momentum > 0) == (config.optimizer.momentum > 0),
               "optimizer.momentum is ", config.optimizer.momentum, ", and that of ", where, " is ",
               saved.optimizer.momentum, ", so that there is no state to go on from");
  faults.check(config.train.steps == 0 || checkpoint.step < config.train.steps, where,
               " is of step ", checkpoint.step, ", and train.steps is ", config.train.steps,
               ": nothing is left to do; give more with --steps");
  faults.require_none();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// Newest first, the same on all ranks. Rank 0 decides which there are (another one might be written or deleted
// meanwhile), where it does not run on one host of several, of which each may have some.
std::vector<FoundCheckpoint> agree_on_candidates(
    const Config& config,
    Transport& transport,
    const std::function<void(const std::string&)>& say) {
  const bool several = spans_hosts(transport);
  std::string mine;
  if (transport.rank() == 0 || several) {
    for (const FoundCheckpoint& found : candidates(config)) {
      const std::string fault = fault_of(found, several);
      if (fault.empty())
        mine += cat(found.step, ' ', found.path.string(), '\n');
      else if (transport.rank() == 0)
        say(cat("# passed over: ", found.path.string(), ": ", fault));
    }
  }
  std::vector<FoundCheckpoint> all;
  for (const std::string& theirs : all_gather_text(transport, mine, kCheckpoint))
    for (const std::string& line : lines_of(theirs)) {
      const std::size_t space = line.find(' ');
      const fs::path path = line.substr(space + 1);
      if (std::ranges::find(all, path, &FoundCheckpoint::path) == all.end())
        all.push_back({.path = path, .step = std::stoll(line.substr(0, space))});
    }
  std::ranges::stable_sort(all, std::greater(), &FoundCheckpoint::step);
  return all;
}

}  // namespace

fs::path checkpoint_directory(const Config& config) {
  return config.checkpoint.directory.empty() ? fs::path(config.run_dir) / "checkpoints"
                                             : fs::path(config.checkpoint.directory);
}

Config resumed_config(const fs::path& run, const std::vector<std::string>& settings) {
  const fs::path file = run / kRunFiles[0];
  check_usage(fs::exists(file), run.string(), " is no run's folder: it holds no ", kRunFiles[0],
              "; --resume takes the folder that the run wrote its files into");
  check_usage(!fs::exists(run / kManifestFile), run.string(),
              " is a checkpoint; --resume takes the ",
              "folder of its run, and goes on from the newest that is there");
  const std::string text = read_file(file.string());
  check_usage(text.starts_with(kRunMark), file.string(),
              " was not written by a run; --resume takes the folder of a run");
  const Given given(settings);
  check_usage(!given("model.from"),
              "model.from is for a run that begins; one that is resumed goes ",
              "on with its own weights");
  Config saved = parse_config(text, file.string(), {});
  saved.run_dir = run.string();
  const std::string from = checkpoint_directory(saved).string();
  derive_anew(saved, given);
  Config config = parse_config(to_toml(saved), file.string(), settings);
  config.run_dir = run.string();
  config.resume = Resume::Must;
  config.resume_from = from;
  return config;
}

void claim_checkpoints(const Config& config, bool overwrite) {
  if (config.checkpoint.directory.empty()) return;  // then they are in the folder that the run has
  const std::vector<FoundCheckpoint> found = list_checkpoints(config.checkpoint.directory);
  check_usage(overwrite || found.empty(), "checkpoint.directory ", config.checkpoint.directory,
              " holds checkpoints of another run; choose another, or delete them with --overwrite");
  for (const FoundCheckpoint& checkpoint : found) delete_checkpoint(checkpoint.path);
}

void require_resumable(const Config& config) {
  std::optional<FoundCheckpoint> newest;
  std::string why;
  for (const FoundCheckpoint& found : candidates(config)) {
    const std::string fault = fault_of(found, false);
    if (fault.empty() && !newest) newest = found;
    if (!newest) why += cat("; ", found.path.string(), ": ", fault);
  }
  check_usage(newest.has_value(), "there is no complete checkpoint in ", config.resume_from,
              " to go on from", why);
  require_fits(config, *newest);
}

void require_same_model(const Config& config) {
  const fs::path file = fs::path(config.model.from) / kModelConfigFile;
  check_usage(fs::exists(file), "model.from: there is no ", file.string(),
              "; it is the folder of a checkpoint, or of a model as Hugging Face has it");
  Faults faults;
  const TransformerConfig& ours = config.model.transformer;
  TransformerConfig theirs = parse_config_json(read_file(file.string()), file.string());
  // Rotary positions are no parameters: sequences may be shorter.
  if (theirs.rope_theta > 0) theirs.context = std::min(theirs.context, ours.context);
  compare_models(theirs, ours, config.model.from, faults);
  faults.require_none();
}

std::optional<fs::path> newest_checkpoint(const Config& config) {
  for (const FoundCheckpoint& found : candidates(config))
    if (fault_of(found, false).empty()) return found.path;
  return std::nullopt;
}

std::optional<Resumed> read_newest(const Config& config,
                                   const Plan& plan,
                                   const Naming& naming,
                                   Transport& transport,
                                   const std::function<void(const std::string&)>& say) {
  const std::vector<FoundCheckpoint> all = agree_on_candidates(config, transport, say);
  const Wanted wanted = wanted_by(config, plan, transport.rank());
  std::string all_reasons;
  for (const FoundCheckpoint& found : all) {
    const std::string folder = found.path.string();
    ReadShare read = read_share(folder, wanted, naming, transport);
    if (read.fault.empty()) {
      if (spans_hosts(transport) && fs::exists(found.path / kRunConfigFile))
        require_fits(config, found);
      return Resumed{folder, std::move(read.share)};
    }
    all_reasons += cat("; ", folder, ": ", read.fault);
    if (transport.rank() == 0) say(cat("# passed over: ", folder, ": ", read.fault));
  }
  if (all_reasons.empty() && config.resume == Resume::IfThere) return std::nullopt;
  throw Error(cat("no checkpoint in ", config.resume_from, " can be read", all_reasons,
                  all.empty() ? ", as none is there that is complete" : ""));
}

NamedTensors read_initial_weights(const Config& config,
                                  const Plan& plan,
                                  const Naming& naming,
                                  int rank) {
  const Ownership ownership = ownership_of(plan);
  std::vector<std::string> names;
  for (const std::size_t order : ownership.owned_by(rank))
    names.push_back(ownership.parameters[order].name);
  return read_weights(config.model.from, names, naming);
}

}  // namespace headrace
