// The training run of one rank, from the data to the table at the end.
//
//   TrainingResult result = run_training(config, transport, {.console = &console});
//
// Every rank calls it with the same configuration; ranks that were given another one, or other
// data, are refused before the first step. Rank 0 writes the console and, where config.run_dir
// names one, the run's folder. Throws Error as the parts do.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "headrace/runtime/pipeline.h"
#include "headrace/train/config/config.h"
#include "headrace/train/console.h"
#include "headrace/transport/transport.h"

namespace headrace {

struct TrainingHooks {
  Console* console = nullptr;  // on rank 0; null: nothing is shown
  // Asked before every step; any rank's yes ends the run after it.
  std::function<bool()> stop_requested;
  // Steps are counted from 0 here.
  std::function<void(std::int64_t step, const Action&)> on_action;    // before each action
  std::function<void()> on_evaluation;                                // before each evaluation
  std::function<void(std::int64_t step, Pipeline&)> after_gradients;  // before each update
};

struct TrainingResult {
  std::vector<double> losses;  // of every step
  std::vector<double> norms;
  double validation_loss = 0;  // of the last evaluation; mean over tokens, in nats
  double accuracy = 0;
  bool stopped = false;  // asked to end before the last step
};

TrainingResult run_training(const Config& config, Transport& transport, const TrainingHooks& hooks);

}  // namespace headrace
