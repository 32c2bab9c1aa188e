#include <vector>

#include "headrace/train/config/rules.h"
#include "headrace/train/config/sections.h"

namespace headrace {

using namespace rules;

void add_pipeline_keys(std::vector<Key>& table) {
  Rows pipeline(table, "pipeline", [](auto& c) -> auto& { return c.pipeline; });
  using P = PipelineConfig;
  pipeline("ranks", &P::ranks, Whole{1},
           "of one pipeline; not given: as `balance` or the launcher says, else 2");
  pipeline("replicas", &P::replicas, Replicas{},
           "of every stage, or of each: so many times the processes");
  pipeline("shard_optimizer", &P::shard_optimizer, Flag{},
           "with replicas: each keeps and updates its part of the optimizer's state");
  pipeline("schedule", &P::schedule, Text{},
           "`headrace show` lists them; `auto` searches one; or a schedule file, .csv");
  pipeline("stages_per_rank", &P::stages_per_rank, Whole{1},
           "not given: the schedule's own, 2 for interleaved and V shapes");
  pipeline("balance", &P::balance,
           ListOf<Whole>{.rule = {}, .what = "a list of whole numbers, as [3, 5]"},
           "transformer blocks a stage; not given: by estimated cost")
      .instead_of = "split";
  pipeline("split", &P::split,
           ListOf<Text>{.rule = {}, .what = "a list of layers, as [\"blocks.3.mlp\"]"},
           "the first layer of each later stage")
      .instead_of = "balance";
  pipeline("recompute", &P::recompute, RecomputeRule{},
           "what is computed again in the backward instead of kept: the attention branches, all "
           "activations, or all of some stages");
  pipeline("device", &P::device, Choice{{"auto", "cpu", "cuda"}},
           "what the ranks compute on; auto: CUDA where every rank has a device, else the CPU");
  pipeline("ranks_per_device", &P::ranks_per_device, Whole{1},
           "how many of a host's ranks may share a CUDA device; tensors between those that do go "
           "through the host");
  pipeline("threads", &P::threads, Whole{0}, "a rank; 0: cores ÷ ranks, at least 1");
  pipeline("start_limit", &P::start_limit, Seconds{}, "longest wait until the first step is done");
  pipeline("step_limit", &P::step_limit, Seconds{}, "longest wait in a later step");
}

}  // namespace headrace
