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
#include <optional>
#include <string>

#include "headrace/schedule/action.h"
#include "headrace/train/config/config.h"
#include "headrace/train/console.h"
#include "headrace/train/devices.h"
#include "headrace/train/records.h"
#include "headrace/transport/transport.h"

namespace headrace {

struct TrainingHooks {
  Console* console = nullptr;  // on rank 0; null: nothing is shown
  DeviceChoice choice = {};    // of this rank's device
  // Asked before every step; any rank's yes ends the run after it.
  std::function<bool()> stop_requested = {};
  std::function<void(std::int64_t step)> on_step = {};  // before each; from 1
  std::function<void(const Action&)> on_action = {};    // before each action
  std::function<void()> on_evaluation = {};             // before each evaluation
  std::function<void()> on_saving = {};                 // before the run waits for a checkpoint
};

struct TrainingResult {
  std::int64_t steps_done = 0;
  std::optional<EvaluationRecord> evaluation;  // the last
  std::string stopped;  // why it has ended before its last step: "as asked"; empty: it has not
};

TrainingResult run_training(const Config& config, Transport& transport, const TrainingHooks& hooks);

}  // namespace headrace
