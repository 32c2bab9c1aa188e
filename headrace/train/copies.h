// Silent corruption: ranks that hold copies of a parameter, replicas and the two ends of a tied matrix, must
// hold the same bits of it. Where they do not, a processor or memory has failed, and what is trained from
// there on is of no worth.
#pragma once

#include <cstdint>
#include <string>

#include "headrace/runtime/pipeline.h"

namespace headrace {

// Compares checksums of all copies; every rank calls it, after the same step. Empty, or on every rank the first
// parameter, in the model's order, whose copies differ, and where: "blocks.1.mlp.up.weight on rank 3 is not
// what it is on ranks 0, 1 and 2".
std::string differing_copies(Pipeline& pipeline, Transport& transport, std::int64_t step);

}  // namespace headrace
