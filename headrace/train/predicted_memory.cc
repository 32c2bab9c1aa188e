#include "headrace/train/predicted_memory.h"

#include "headrace/plan/memory.h"
#include "headrace/train/trainable.h"

namespace headrace {

std::vector<double> predicted_memory(const Config& config, const Plan& plan) {
  const TrainConfig& train = config.train;
  MemoryOptions options;
  options.rows = static_cast<double>(train.microbatch);
  options.product_bytes = train.precision == "fp32" ? 4 : 2;
  options.state_bytes = config.optimizer.kind == "adamw" ? 8
                        : config.optimizer.momentum > 0  ? 4
                                                         : 0;
  options.sharded = config.pipeline.shard_optimizer;
  options.checkpoints = config.checkpoint.every > 0 || config.checkpoint.every_minutes > 0;
  constexpr double kIdBytes = 8;  // of a token, and of its target
  options.batch_bytes =
      2 * kIdBytes * static_cast<double>(train.batch * config.model.transformer.context);
  return predict_memory(plan, training_schedule(plan, static_cast<int>(train.microbatches)),
                        options);
}

}  // namespace headrace
