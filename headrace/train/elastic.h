// A run laid out anew for as many processes as there are, where a machine is gone, or has come back: on other
// ranks, with other replicas, cut into other stages. What it goes on from is any checkpoint of it.
#pragma once

#include <string>

#include "headrace/train/config/config.h"

namespace headrace {

struct LaidOut {
  Config config;
  // For the user: "2 processes instead of 3: ranks 3 -> 2; by the layers' estimated costs a step takes
  // 1.4 times as long". Empty where nothing had to change.
  std::string what;
};

// Wants a resolved configuration whose `ranks` is known. Of the ways to make so many processes the first that
// model, schedule and batch allow: with as many replicas as before, with as many ranks a pipeline, with one
// pipeline of all. Throws UsageError, with what each of them lacks, where there is none.
LaidOut laid_out_for(int processes, const Config& config);

}  // namespace headrace
