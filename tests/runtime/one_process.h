// A small model in one process, the same model over the ranks of a pipeline, and the comparison of
// the two to the bit.
//
//   const Case c{.microbatches = 8, .tied = true, .dropout = 0.1, .clip = 0.05};
//   expect_same(pipelined(c, "1f1b", 4, false), one_process(c));
//
// The reference uses neither stages nor executor nor transport: a plain loop over the layers. Where
// a stage has r replicas, replica k adds up the gradients of microbatches k, k + r, …, and these r
// sums are added in turn: the reference does the same, and nothing else changes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <torch/types.h>

#include "headrace/model/layer.h"
#include "headrace/plan/plan.h"
#include "headrace/plan/transformer.h"
#include "headrace/transport/local.h"

namespace headrace {

struct Case {
  int microbatches;
  bool tied;
  double dropout;
  double clip;
  int layers = 4;
  std::int64_t rows = 2;
  std::int64_t last_rows = rows;  // of the last microbatch
  torch::ScalarType precision = torch::kFloat32;
  double backward_scale = 1;
  Family family = Family::Gpt;
};

struct Outcome {
  std::vector<double> losses;
  std::vector<double> norms;
  std::vector<std::map<std::string, torch::Tensor>> gradients;  // of each step, after clipping
  std::map<std::string, torch::Tensor> weights;                 // after the last step
};

std::vector<LayerSpec> model_of(const Case& c);

// `replicas`: of the stage of each layer; empty: one of each.
Outcome one_process(const Case& c, std::vector<int> replicas = {});
// Those of a plan, as one_process wants them.
std::vector<int> replicas_of_layers(const Plan& plan);

// The plan of the case's model; the wish's microbatches are the case's.
Plan plan_of(const Case& c, PlanWish wish);
Outcome pipelined(const Case& c,
                  const PlanWish& wish,
                  bool sharded,
                  const LocalOptions& local = {});
Outcome pipelined(const Case& c,
                  const std::string& schedule,
                  int ranks,
                  bool recompute,
                  const LocalOptions& local = {});

void expect_same(const Outcome& actual, const Outcome& expected);

}  // namespace headrace
