// The data of a run: which samples each step takes, and what is kept for validation.
//
//   const Samples samples(config);
//   samples.steps();                     // of the whole run
//   Batch batch = samples.of_step(12);   // the same on every rank; fewer rows at an epoch's end
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "headrace/data/batches.h"
#include "headrace/data/token_file.h"
#include "headrace/train/config/config.h"

namespace headrace {

class Samples {
 public:
  // Opens or makes the token file. Throws Error where an id does not fit the model's vocabulary or
  // a split holds no sample.
  explicit Samples(const Config& config);

  const TokenFile& file() const { return *file_; }
  std::int64_t training_samples() const { return training_->samples(); }
  // Sequences an evaluation takes; 0: there is no validation split.
  std::int64_t evaluation_samples() const { return evaluation_samples_; }
  std::int64_t steps() const { return steps_; }

  // Sequences in a step's batch; the fewest of all steps.
  std::int64_t rows(std::int64_t step) const;
  std::int64_t fewest_rows() const;
  Batch of_step(std::int64_t step) const;
  Batch for_evaluation(std::int64_t first, std::int64_t rows) const;

  // What ranks must agree on: the file's length and checksum, in words.
  std::string fingerprint() const;

 private:
  std::shared_ptr<const TokenFile> file_;
  std::optional<Batches> training_;
  std::optional<Batches> validation_;
  std::int64_t evaluation_samples_ = 0;
  std::int64_t batch_;
  std::int64_t steps_ = 0;
  std::int64_t steps_per_epoch_ = 0;  // 0: batches run on over the ends of epochs
};

}  // namespace headrace
