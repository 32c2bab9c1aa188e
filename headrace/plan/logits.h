// How many of a microbatch's tokens have their logits computed at a time. Logits of a large vocabulary are the largest thing
// that a model makes: 8,192 tokens of 128,000 words take 4 GB. Where they would take much they are computed in chunks, whose
// numbers are made again for the backward (Wijmans et al., Cut Your Losses in Large-Vocabulary Language Models, ICLR 2025, do
// so in one kernel), at the cost of a further product of the head's matrix: a third of the head's operations.
#pragma once

#include <cstdint>

namespace headrace {

// Depends on sizes alone, so that it is the same over any number of ranks. `tokens` where they may be whole.
std::int64_t logit_rows_at_once(std::int64_t tokens, std::int64_t vocabulary);

}  // namespace headrace
