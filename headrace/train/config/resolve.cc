#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/faults.h"
#include "headrace/base/text.h"
#include "headrace/plan/source.h"
#include "headrace/plan/transformer.h"
#include "headrace/tokenizer/tokenizer.h"
#include "headrace/train/config/config.h"
#include "headrace/train/config/keys.h"
#include "headrace/train/config/refusals.h"
#include "headrace/train/config/value.h"

namespace headrace {
namespace {

// For a Config made in code: what was read from a file has been checked with its line.
void check_ranges(const Config& config, Faults& faults) {
  const Config fresh;
  for (const Key& key : keys()) {
    const Value value = key.get(config);
    if (value == key.get(fresh)) continue;
    Config scratch;
    faults.attempt([&] { set_key(key, scratch, value, ""); });
  }
}

// "4", "4 or 8": what divides `total` and is nearest to `wanted`, below and above.
std::string divisors_near(std::int64_t total, std::int64_t wanted) {
  constexpr std::int64_t kTries = 1000000;  // of a total typed with too many zeros
  std::int64_t below = std::min(wanted, total);
  for (const std::int64_t stop = below - kTries; below > stop && total % below != 0;) --below;
  if (total % below != 0) below = 1;
  std::int64_t above = wanted;
  for (const std::int64_t stop = above + kTries; above < stop && above < total;) {
    if (total % above == 0) break;
    ++above;
  }
  return above > total || total % above != 0 || above == below ? std::to_string(below)
                                                               : cat(below, " or ", above);
}

// The third of batch = microbatch × microbatches, from the batch and one of the others.
std::int64_t third(std::int64_t batch,
                   std::int64_t given,
                   const std::string& given_name,
                   const std::string& third_name) {
  const std::int64_t less = batch / given * given;
  const bool can_be_more = less <= std::numeric_limits<std::int64_t>::max() - given;
  check_usage(batch % given == 0, "train.batch is ", batch, " and ", given_name, " ", given,
              ", so that ", third_name, " would be ", batch, " / ", given, ", not a whole number; ",
              given_name, " = ", divisors_near(batch, given),
              " or train.batch = ", less > 0 ? std::to_string(less) : "",
              less > 0 && can_be_more ? " or " : "",
              can_be_more ? std::to_string(less + given) : "", " would fit");
  return batch / given;
}

void resolve_batch(TrainConfig& train) {
  std::int64_t& batch = train.batch;
  std::int64_t& size = train.microbatch;
  std::int64_t& count = train.microbatches;
  const int given = (batch > 0 ? 1 : 0) + (size > 0 ? 1 : 0) + (count > 0 ? 1 : 0);
  check_usage(given >= 2, "of train.batch, train.microbatch and train.microbatches ",
              given == 0 ? "none is given" : "only one is given",
              "; give two, and the third follows: batch = microbatch × microbatches");
  if (count == 0) {
    count = third(batch, size, "train.microbatch", "train.microbatches");
  } else if (size == 0) {
    size = third(batch, count, "train.microbatches", "train.microbatch");
  } else {
    check_usage(size <= std::numeric_limits<std::int64_t>::max() / count, "train.microbatch ", size,
                " × train.microbatches ", count, " is too large");
    if (batch == 0) batch = size * count;
    if (batch == size * count) return;
    std::vector<std::string> fits = {cat("train.batch = ", size * count)};
    if (batch % count == 0) fits.push_back(cat("train.microbatch = ", batch / count));
    if (batch % size == 0) fits.push_back(cat("train.microbatches = ", batch / size));
    throw UsageError(cat("train.batch is ", batch, ", but train.microbatch ", size,
                         " × train.microbatches ", count, " = ", size * count, "; ",
                         join_text(fits, " or "), " would fit, or leave one of the three out"));
  }
}

// Numbers that the program counts microbatches and tokens with.
void check_batch(const TrainConfig& train, const TransformerConfig& model, Faults& faults) {
  constexpr auto kMost = std::numeric_limits<int>::max();
  faults.check(train.microbatches <= kMost, "train.microbatches is ", train.microbatches,
               "; it can be at most ", kMost);
  faults.check(train.batch <= std::numeric_limits<std::int64_t>::max() / 16 / model.context,
               "train.batch ", train.batch, " × model.context ", model.context,
               " tokens are too many");
}

void check_train(const TrainConfig& train, const OptimizerConfig& optimizer, Faults& faults) {
  faults.check(train.steps == 0 || train.epochs == 0, "train.steps ", train.steps,
               " and train.epochs ", train.epochs, " are both given; give one of them");
  faults.check(train.steps > 0 || train.epochs > 0,
               "neither train.steps nor train.epochs is given; give one of them");
  int exponent = 0;
  faults.check(std::frexp(train.loss_scale, &exponent) == 0.5, "train.loss_scale is ",
               train.loss_scale, ", not a power of two: scaling by it would change the gradients");
  faults.check(optimizer.minimum_learning_rate <= optimizer.learning_rate,
               "optimizer.minimum_learning_rate is ", optimizer.minimum_learning_rate,
               ", more than optimizer.learning_rate, ", optimizer.learning_rate);
}

void check_sizes(const TransformerConfig& model, Faults& faults) {
  if (model.head_width == 0 &&
      !faults.check(model.width % model.heads == 0, "model.width is ", model.width,
                    ", not a multiple of model.heads, ", model.heads,
                    "; model.heads = ", divisors_near(model.width, model.heads), " would fit"))
    return;
  for (const std::string& fault : faults_of(model)) faults.check(false, "model.", fault);
}

void check_data(const TransformerConfig& model, const DataConfig& data, Faults& faults) {
  faults.check(data.text.empty() || data.tokens.empty(),
               "data.text and data.tokens are both given; give one of them");
  faults.check(!data.text.empty() || !data.tokens.empty(),
               "no data is given; give data.text (text files) or data.tokens (a token file)");
  if (data.text.empty()) return;
  std::shared_ptr<const Tokenizer> tokenizer;
  try {
    tokenizer = shared_tokenizer(data.tokenizer);
  } catch (const Error& error) {
    faults.check(false, "data.tokenizer: ", error.what());
    return;
  }
  const int ids = tokenizer->vocabulary();
  faults.check(model.vocabulary >= ids, "model.vocabulary is ", model.vocabulary, ", and the ",
               data.tokenizer, " tokenizer has ", ids, " ids; model.vocabulary must be ", ids,
               " or more");
  faults.check(data.end_token.empty() || tokenizer->id_of(data.end_token).has_value(),
               "data.end_token is '", data.end_token, "', and the ", data.tokenizer,
               " tokenizer has no such token");
}

// Those that are named one by one.
std::vector<int> stages_of(const RecomputeWish& wish) {
  const auto* named = std::get_if<std::vector<int>>(&wish);
  return named == nullptr ? std::vector<int>() : *named;
}

// What does not need the number of stages.
void check_pipeline(const PipelineConfig& pipeline,
                    const TransformerConfig& model,
                    Faults& faults) {
  const std::vector<int>& balance = pipeline.balance;
  faults.check(balance.empty() || pipeline.split.empty(),
               "pipeline.balance and pipeline.split are both given; give one of them");
  const std::int64_t blocks = std::accumulate(balance.begin(), balance.end(), std::int64_t{0});
  faults.check(balance.empty() || blocks == model.layers, "pipeline.balance has ", blocks,
               " blocks in all, ", "and model.layers is ", model.layers);
  constexpr int kMostThreads = 1024;
  faults.check(pipeline.threads <= kMostThreads, "pipeline.threads is ", pipeline.threads,
               ", and a rank has at most ", kMostThreads,
               "; 0 shares the cores of the machine among its ranks");
  std::set<int> seen, twice;
  for (const int stage : stages_of(pipeline.recompute))
    if (!seen.insert(stage).second && twice.insert(stage).second)
      faults.check(false, "pipeline.recompute names stage ", stage, " twice");
}

// Derives the ranks and the stages a rank; afterwards, where the ranks are known, the stages are.
void resolve_stages(PipelineConfig& pipeline) {
  const ScheduleSource source =
      naming_settings("pipeline", [&] { return schedule_source(pipeline.schedule); });
  if (source.file && pipeline.ranks == 0) pipeline.ranks = source.file->placement.ranks;
  if (pipeline.replicas.size() > 1 && pipeline.ranks == 0)
    pipeline.ranks = static_cast<int>(pipeline.replicas.size());
  if (pipeline.stages_per_rank == 0) pipeline.stages_per_rank = source.stages_per_rank();
  const bool cut = !pipeline.balance.empty() || !pipeline.split.empty();
  const std::string name = pipeline.split.empty() ? "pipeline.balance" : "pipeline.split";
  const std::size_t stages =
      pipeline.split.empty() ? pipeline.balance.size() : pipeline.split.size() + 1;
  const auto per_rank = static_cast<std::size_t>(pipeline.stages_per_rank);
  if (cut && pipeline.ranks == 0) {
    check_usage(stages % per_rank == 0, name, " makes ", stages,
                " stages, not a multiple of pipeline.stages_per_rank, ", per_rank);
    pipeline.ranks = static_cast<int>(stages / per_rank);
  }
  const std::size_t wanted = static_cast<std::size_t>(pipeline.ranks) * per_rank;
  check_usage(!cut || stages == wanted, name, " makes ", stages, " stages, and pipeline.ranks ",
              pipeline.ranks, " × pipeline.stages_per_rank ", per_rank, " = ", wanted);
}

void check_recompute(const PipelineConfig& pipeline, Faults& faults) {
  if (pipeline.ranks == 0) return;
  const std::int64_t stages = std::int64_t{pipeline.ranks} * pipeline.stages_per_rank;
  for (const int stage : stages_of(pipeline.recompute))
    faults.check(stage < stages, "pipeline.recompute names stage ", stage,
                 ", and the stages are 0 to ", stages - 1);
}

}  // namespace

int processes_of(const PipelineConfig& pipeline) {
  if (pipeline.replicas.size() == 1) return pipeline.ranks * pipeline.replicas[0];
  return std::accumulate(pipeline.replicas.begin(), pipeline.replicas.end(), 0);
}

void resolve(Config& config) {
  Faults faults;
  check_ranges(config, faults);
  faults.require_none();  // the rest counts with numbers that can be counted with
  TransformerConfig& model = config.model.transformer;
  if (faults.attempt([&] { resolve_batch(config.train); }))
    check_batch(config.train, model, faults);
  check_train(config.train, config.optimizer, faults);
  check_sizes(model, faults);
  check_data(model, config.data, faults);
  check_pipeline(config.pipeline, model, faults);
  for (const int replicas : config.pipeline.replicas)
    faults.check(config.train.microbatches == 0 || replicas <= config.train.microbatches,
                 "pipeline.replicas holds ", replicas, ", and there are ",
                 config.train.microbatches,
                 " microbatches in a batch: each replica of a stage needs one");
  if (faults.attempt([&] { resolve_stages(config.pipeline); }))
    check_recompute(config.pipeline, faults);
  faults.require_none();
}

}  // namespace headrace
