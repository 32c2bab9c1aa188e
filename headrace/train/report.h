// What a run tells: lines and the progress bar on rank 0's console, records in its folder, and the table
// at its end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headrace/train/config/config.h"
#include "headrace/train/console.h"
#include "headrace/train/prepare.h"
#include "headrace/train/run_folder.h"
#include "headrace/train/stage_times.h"
#include "headrace/transport/transport.h"

namespace headrace {

class Report {
 public:
  // Opens the run's folder, on rank 0 where config.run_dir names one. `console` may be null.
  Report(const Config& config, Transport& transport, Console* console);

  // Every rank calls it.
  void opening(const Prepared& run);
  // Whether an evaluation after this step is missing in the records. Every rank calls it, and gets
  // what is so on rank 0.
  bool lacks_evaluation(std::int64_t step) const;
  void step(const TrainerStep& step, double seconds, double loss_scale);
  void evaluation(const EvaluationRecord& record);
  void say(std::string text);
  // Every rank calls it.
  // `stopped`: why, where it has not done all its steps: "as asked".
  void closing(const Prepared& run, const std::string& stopped);

 private:
  std::string utilisation(const Prepared& run) const;

  const Config& config_;
  Transport& transport_;
  Console* console_;
  std::optional<RunFolder> folder_;
  StageClock clock_;
  std::vector<Event> events_;  // of the last step
  // Of all steps but the first, which has more to do, unless it is the only one.
  std::int64_t tokens_ = 0;
  double seconds_ = 0;
  int steps_ = 0;
};

}  // namespace headrace
