// Everything a run is made of: one TOML file, read strictly, plus `--set section.key=value` and the
// daily flags.
//
//   Config config = read_config("configs/shakespeare.toml", {"train.steps=20"});
//   resolve(config);
//
// Sizes of [model] that are not given are those of the folder that model.from names, if it names one.
// Each key is documented in docs/configuration.md. Throws UsageError for an unknown key (file,
// line, section and the nearest known key), a wrong type, a key given twice, and for values that do
// not fit one another, with the arithmetic; one error tells all that is wrong.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "headrace/plan/recompute.h"
#include "headrace/plan/transformer.h"

namespace headrace {

struct ModelConfig {
  TransformerConfig transformer;
  std::string from;  // a folder with weights to begin with; empty: drawn
};

struct DataConfig {
  std::vector<std::string> text;     // text files or patterns ("data/shakespeare/*.txt")
  std::string tokens;                // or a token file made before
  std::string tokenizer = "byte";    // for text
  std::string end_token;             // after each text; empty: none
  std::string cache = "data/cache";  // where token files made from text lie
  double validation = 0.05;          // share of the tokens, from the end, kept for validation
};

struct TrainConfig {
  std::int64_t steps = 0;   // one of steps and epochs
  std::int64_t epochs = 0;  // whole passes; the last batch of each may be smaller unless drop_last
  bool drop_last = false;
  // Any two of these give the third (0: not given): batch = microbatch × microbatches.
  std::int64_t batch = 0;          // sequences in a global batch
  std::int64_t microbatch = 0;     // sequences in a microbatch
  std::int64_t microbatches = 0;   // microbatches in a global batch
  std::string precision = "fp32";  // or "bf16", "fp16": of matrix products
  double loss_scale = 65536;       // fp16: what it starts at
  std::uint64_t seed = 1;
  // Of a step whose loss or gradients are not finite: "end" or "skip".
  std::string not_finite = "end";
  std::int64_t skip_limit = 10;   // so many skipped in a row end the run
  std::int64_t verify_every = 0;  // steps between comparisons of copies (copies.h); 0: none
  double time_limit = 0;          // seconds, after which the run saves and stops; 0: none
  bool deterministic = true;      // on CUDA: kernels that give the same bits each time, or none
};

struct OptimizerConfig {
  std::string kind = "adamw";  // or "sgd"
  double learning_rate = 1e-3;
  double minimum_learning_rate = 0;  // the last step's, with the cosine
  std::int64_t warmup = 0;           // steps of linear warm-up
  std::string decay = "cosine";      // or "constant"
  double weight_decay = 0.1;         // on matrices only
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double momentum = 0;  // sgd
  double clip = 1.0;    // greatest gradient norm over all stages; 0: none
};

struct EvaluateConfig {
  std::int64_t every = 0;       // steps; 0: at the end only
  std::int64_t sequences = 0;   // of the validation split; 0: all
  std::int64_t microbatch = 0;  // sequences in a microbatch; 0: as in training
};

struct PipelineConfig {
  // Of one pipeline; 0: as many as `balance` says, or as the processes that a launcher has started
  // make, or 2.
  int ranks = 0;
  std::vector<int> replicas = {1};  // of every stage, or one number a stage
  bool shard_optimizer = false;     // each replica keeps and updates a part of the weights' state
  std::string schedule = "1f1b";
  int stages_per_rank = 0;         // 0: the schedule's own
  std::vector<int> balance;        // transformer blocks a stage
  std::vector<std::string> split;  // or the first layer of each later stage
  RecomputeWish recompute = Recompute::None;
  std::string device = "auto";  // or "cpu", "cuda"; auto: CUDA where each rank of a host has one
  int ranks_per_device = 1;     // of a host's ranks, so many after one another share a CUDA device
  int threads = 0;              // intra-op threads a rank; 0: cores ÷ ranks
  double start_limit = 300;     // seconds: rendezvous, loading, the first step
  double step_limit = 120;      // seconds: any wait of a later step
};

struct CheckpointConfig {
  std::int64_t every = 0;               // steps; 0: none by steps
  double every_minutes = 0;             // 0: none by time
  std::int64_t keep = 3;                // complete ones, the newest; 0: all
  bool at_end = true;                   // also where the run is asked to stop
  std::string directory;                // empty: checkpoints/ in the run's folder
  std::string on_failure = "continue";  // or "stop": what the run does where one cannot be written
};

// Whether a run goes on from the newest checkpoint of the run in its folder: where it is started anew
// after a failure, there may be none yet.
enum class Resume : std::uint8_t { No, IfThere, Must };

struct Config {
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;
  EvaluateConfig evaluate;
  PipelineConfig pipeline;
  CheckpointConfig checkpoint;
  std::string run_dir;         // flag only: where rank 0 writes the run's files; empty: nowhere
  bool overwrite = false;      // flag only: what an earlier run left there is deleted
  Resume resume = Resume::No;  // flag only, or as the launcher says
  std::string resume_from;     // where that run has written its checkpoints
  std::string laid_out;        // flag only: how it was laid out anew (elastic.h); empty: it was not
  bool timeline = false;       // flag only: write a trace of the run's last steps
};

// `settings` are "section.key=value", applied in order over the file's. A setting replaces what the
// file says instead of it: train.epochs the file's train.steps, pipeline.split its
// pipeline.balance, data.tokens its data.text, and the reverse.
Config read_config(const std::filesystem::path& file, const std::vector<std::string>& settings);
// The same from text; `name` stands in messages for the file.
Config parse_config(const std::string& toml,
                    const std::string& name,
                    const std::vector<std::string>& settings);

// Derives the third of batch, microbatch and microbatches and checks all that can be checked
// without data or processes. May be called again, as when `ranks` has become known.
void resolve(Config& config);

// How many processes the pipeline's ranks and replicas make; `ranks` must be known.
int processes_of(const PipelineConfig& pipeline);

// The configuration as a TOML file that repeats the run.
std::string to_toml(const Config& config);

}  // namespace headrace
