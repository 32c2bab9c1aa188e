// The messages of a timeline: who produced what for whom, across ranks. For arrows in pictures.
#pragma once

#include <cstddef>
#include <vector>

#include "headrace/timeline/timeline.h"

namespace headrace {

struct EventPlace {
  std::size_t rank = 0;
  std::size_t index = 0;
};

struct MessageArrow {
  EventPlace from;  // the F, B or I that produced the tensor
  EventPlace to;    // the one that took it
};

std::vector<MessageArrow> messages(const Timeline& timeline);

}  // namespace headrace
