#include "headrace/train/samples.h"

#include <algorithm>
#include <cstdint>
#include <ios>
#include <memory>
#include <string>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/data/text.h"
#include "headrace/data/tokenizer.h"

namespace headrace {
namespace {

std::shared_ptr<const TokenFile> open_tokens(const DataConfig& config) {
  if (!config.tokens.empty()) return std::make_shared<TokenFile>(config.tokens);
  return tokens_from_text(config.text, *make_tokenizer(config.tokenizer), config.cache);
}

// What the user has named: of a text, not the file of its tokens in the cache.
std::string source_of(const DataConfig& config) {
  return config.tokens.empty() ? "data.text (" + join_text(config.text, ", ") + ")"
                               : "data.tokens " + config.tokens;
}

}  // namespace

Samples::Samples(const Config& config)
    : file_(open_tokens(config.data)), batch_(config.train.batch) {
  file_->require_below(config.model.vocabulary);
  const std::int64_t tokens = file_->size();
  const auto kept = static_cast<std::int64_t>(static_cast<double>(tokens) * config.data.validation);
  const int context = config.model.context;
  check(tokens - kept > context, source_of(config.data), " has ", tokens, " tokens, of which ",
        tokens - kept, " are for training, and a sample takes model.context + 1 = ", context + 1,
        "; give more text, or a smaller context");
  training_.emplace(file_, 0, tokens - kept, context, config.train.seed);
  if (config.data.validation > 0) {
    check(kept > context, "data.validation keeps ", kept, " of ", tokens,
          " tokens for validation, but a sample takes model.context + 1 = ", context + 1,
          "; keep more, or 0 for no validation");
    validation_.emplace(file_, tokens - kept, tokens, context, config.train.seed);
    const std::int64_t wanted = config.train.evaluate_sequences;
    evaluation_samples_ =
        wanted == 0 ? validation_->samples() : std::min(wanted, validation_->samples());
  }
  steps_ = config.train.steps;
  if (config.train.epochs == 0) return;
  const std::int64_t samples = training_->samples();
  steps_per_epoch_ = config.train.drop_last ? samples / batch_ : (samples + batch_ - 1) / batch_;
  check(steps_per_epoch_ > 0, "train.batch ", batch_, " is more than the ", samples,
        " samples of an epoch, and train.drop_last drops what is left");
  steps_ = config.train.epochs * steps_per_epoch_;
}

std::int64_t Samples::rows(std::int64_t step) const {
  if (steps_per_epoch_ == 0) return batch_;
  return std::min(batch_, training_->samples() - step % steps_per_epoch_ * batch_);
}

std::int64_t Samples::fewest_rows() const {
  return rows(steps_per_epoch_ == 0 ? 0 : steps_per_epoch_ - 1);
}

Batch Samples::of_step(std::int64_t step) const {
  const std::int64_t first =
      steps_per_epoch_ == 0
          ? step * batch_
          : step / steps_per_epoch_ * training_->samples() + step % steps_per_epoch_ * batch_;
  return training_->samples_at(first, rows(step));
}

Batch Samples::for_evaluation(std::int64_t first, std::int64_t rows) const {
  return validation_->in_order(first, rows);
}

std::string Samples::fingerprint() const {
  std::ostringstream text;
  text << count_text(file_->size()) << " tokens, checksum " << std::hex << file_->checksum();
  return text.str();
}

}  // namespace headrace
