// The data of a run: which samples each step takes, and what is kept for validation.
//
//   const Samples samples(config, {});
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

// Where a run begins: how many steps were done before it, and how many samples of the endless
// sequence they took. Batches may have been of another size then.
struct Start {
  std::int64_t step = 0;
  std::int64_t sample = 0;
};

class Samples {
 public:
  // Opens or makes the token file. Throws Error where an id does not fit the model's vocabulary or
  // a split holds no sample.
  Samples(const Config& config, const Start& start);

  const TokenFile& file() const { return *file_; }
  std::int64_t training_samples() const { return training_->samples(); }
  // Sequences an evaluation takes; 0: there is no validation split.
  std::int64_t evaluation_samples() const { return evaluation_samples_; }
  // Of the whole run, those before its start included.
  std::int64_t steps() const { return steps_; }

  // Steps are counted from 0 here, and not below the start's.
  // The number of a step's first sample; of the step after the last: where the run ends.
  std::int64_t first_sample(std::int64_t step) const;
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
  Start start_;
  std::int64_t steps_ = 0;
  std::int64_t steps_per_epoch_ = 0;  // 0: batches run on over the ends of epochs
  // With epochs, where the run begins in the midst of one: what is left of that.
  std::int64_t steps_of_rest_ = 0;
  std::int64_t first_whole_epoch_ = 0;
};

}  // namespace headrace
