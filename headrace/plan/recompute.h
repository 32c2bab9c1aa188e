// What stages do not keep from a forward but compute again for its backward.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

namespace headrace {

// Of a stage.
enum class Recompute : std::uint8_t {
  None,
  Attention,  // the attention halves' branches (model/half.h); of a model without them nothing
  All         // the whole stage
};

// The same for all stages, or those that are recomputed whole.
using RecomputeWish = std::variant<Recompute, std::vector<int>>;

}  // namespace headrace
