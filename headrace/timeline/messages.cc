#include "headrace/timeline/messages.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "headrace/schedule/action.h"
#include "headrace/timeline/timeline.h"

namespace headrace {
namespace {

// What an action produces, as one number: direction, stage, microbatch.
std::uint64_t product(bool backward, int stage, int microbatch) {
  return (static_cast<std::uint64_t>(backward ? 1 : 0) << 63) |
         (static_cast<std::uint64_t>(static_cast<std::uint32_t>(stage)) << 32) |
         static_cast<std::uint32_t>(microbatch);
}

bool makes_message(Kind kind) {
  return kind == Kind::Forward || kind == Kind::Backward || kind == Kind::BackwardInput;
}

}  // namespace

std::vector<MessageArrow> messages(const Timeline& timeline) {
  std::unordered_map<std::uint64_t, EventPlace> producers;
  const auto each = [&](auto&& visit) {
    for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
      for (std::size_t i = 0; i < timeline.ranks[rank].size(); ++i) {
        const Action& action = timeline.ranks[rank][i].action;
        if (makes_message(action.kind))
          visit(action, action.kind != Kind::Forward, EventPlace{rank, i});
      }
    }
  };
  each([&](const Action& a, bool backward, EventPlace place) {
    producers.try_emplace(product(backward, a.stage, a.microbatch), place);
  });
  std::vector<MessageArrow> arrows;
  each([&](const Action& a, bool backward, EventPlace place) {
    if (!backward && a.stage == 0) return;
    const auto found =
        producers.find(product(backward, backward ? a.stage + 1 : a.stage - 1, a.microbatch));
    if (found != producers.end() && found->second.rank != place.rank)
      arrows.push_back({found->second, place});
  });
  return arrows;
}

}  // namespace headrace
