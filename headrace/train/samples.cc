#include "headrace/train/samples.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <ios>
#include <memory>
#include <string>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/data/text.h"
#include "headrace/tokenizer/tokenizer.h"
#include "headrace/train/config/refusals.h"

namespace headrace {
namespace {

std::shared_ptr<const TokenFile> open_tokens(const DataConfig& config) {
  if (!config.tokens.empty()) {
    check_usage(std::filesystem::exists(config.tokens), "data.tokens: there is no file ",
                config.tokens, " (looked in ", std::filesystem::current_path().string(), ")");
    return std::make_shared<TokenFile>(config.tokens);
  }
  return naming_settings("data", [&] {
    const auto tokenizer = shared_tokenizer(config.tokenizer);
    return tokens_from_text(
        config.text, *tokenizer, config.cache,
        config.end_token.empty() ? std::nullopt : tokenizer->id_of(config.end_token));
  });
}

// What the user has named: of a text, not the file of its tokens in the cache.
std::string source_of(const DataConfig& config) {
  return config.tokens.empty() ? "data.text (" + join_text(config.text, ", ") + ")"
                               : "data.tokens " + config.tokens;
}

}  // namespace

Samples::Samples(const Config& config, const Start& start)
    : file_(open_tokens(config.data)), batch_(config.train.batch), start_(start) {
  file_->require_below(config.model.transformer.vocabulary);
  const std::int64_t tokens = file_->size();
  const auto kept = static_cast<std::int64_t>(static_cast<double>(tokens) * config.data.validation);
  const int context = config.model.transformer.context;
  check_usage(tokens - kept > context, source_of(config.data), " has ", tokens,
              " tokens, of which ", tokens - kept,
              " are for training, and a sample takes model.context + 1 = ", context + 1,
              "; give more text, or a smaller context");
  training_.emplace(file_, 0, tokens - kept, context, config.train.seed);
  if (config.data.validation > 0) {
    check_usage(kept > context, "data.validation keeps ", kept, " of ", tokens,
                " tokens for validation, but a sample takes model.context + 1 = ", context + 1,
                "; keep more, or 0 for no validation");
    validation_.emplace(file_, tokens - kept, tokens, context, config.train.seed);
    const std::int64_t wanted = config.evaluate.sequences;
    evaluation_samples_ =
        wanted == 0 ? validation_->samples() : std::min(wanted, validation_->samples());
  }
  steps_ = config.train.steps;
  if (config.train.epochs == 0) return;
  const std::int64_t samples = training_->samples();
  const auto steps_for = [&](std::int64_t some) {
    return config.train.drop_last ? some / batch_ : (some + batch_ - 1) / batch_;
  };
  steps_per_epoch_ = steps_for(samples);
  check_usage(steps_per_epoch_ > 0, "train.batch ", batch_, " is more than the ", samples,
              " samples of an epoch, and train.drop_last drops what is left");
  const std::int64_t into_epoch = start.sample % samples;
  first_whole_epoch_ = start.sample / samples;
  if (into_epoch > 0) {
    steps_of_rest_ = steps_for(samples - into_epoch);
    ++first_whole_epoch_;
  }
  const std::int64_t epochs_left =
      std::max<std::int64_t>(0, config.train.epochs - first_whole_epoch_);
  const bool rest_counts = first_whole_epoch_ <= config.train.epochs;
  steps_ = start.step + (rest_counts ? steps_of_rest_ : 0) + epochs_left * steps_per_epoch_;
}

std::int64_t Samples::first_sample(std::int64_t step) const {
  const std::int64_t since = step - start_.step;
  if (steps_per_epoch_ == 0 || since < steps_of_rest_) return start_.sample + since * batch_;
  const std::int64_t whole = since - steps_of_rest_;
  return (first_whole_epoch_ + whole / steps_per_epoch_) * training_->samples() +
         whole % steps_per_epoch_ * batch_;
}

std::int64_t Samples::rows(std::int64_t step) const {
  if (steps_per_epoch_ == 0) return batch_;
  return std::min(batch_, training_->samples() - first_sample(step) % training_->samples());
}

std::int64_t Samples::fewest_rows() const {
  if (steps_per_epoch_ == 0) return batch_;
  std::int64_t fewest = batch_;
  // The last batches of what is left of an epoch and of a whole one.
  if (steps_of_rest_ > 0) fewest = std::min(fewest, rows(start_.step + steps_of_rest_ - 1));
  if (steps_ > start_.step + steps_of_rest_)
    fewest = std::min(fewest, rows(start_.step + steps_of_rest_ + steps_per_epoch_ - 1));
  return fewest;
}

Batch Samples::of_step(std::int64_t step) const {
  return training_->samples_at(first_sample(step), rows(step));
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
