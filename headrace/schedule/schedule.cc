#include "headrace/schedule/schedule.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

constexpr std::string_view kOverlap = ")OVERLAP_F_B";
// Spreadsheets and some editors put it before UTF-8.
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

void append_cell(std::string_view cell, std::vector<Action>& row) {
  if (cell.starts_with('(') && cell.ends_with(kOverlap)) {
    const std::vector<std::string> parts =
        split_text(cell.substr(1, cell.size() - 1 - kOverlap.size()), ';');
    check(parts.size() == 2, "'", cell, "' must hold two actions, as (0F7;7B3)OVERLAP_F_B");
    for (const std::string& part : parts) {
      row.push_back(parse_action(trim(part)));
      check(is_compute(row.back().kind), "'", cell, "' overlaps ", part,
            "; only F, B, I and W can be overlapped");
    }
    row[row.size() - 2].overlaps_next = true;
    return;
  }
  const std::size_t kind_at = std::min(cell.find_first_not_of("0123456789"), cell.size());
  const std::string_view kind = cell.substr(kind_at);
  // PyTorch gathers and frees sharded parameters so; nothing is sharded here.
  if (kind_at > 0 && (kind == "UNSHARD" || kind == "RESHARD")) return;
  row.push_back(parse_action(cell));
}

// Which ranks hold a stage, from who does what: the smallest number of replicas that misplaces the
// fewest actions, so that one action on a wrong rank stands out instead of passing as a replica.
class Owners {
 public:
  void add(int rank, int microbatch) {
    does_.emplace_back(rank, microbatch);
    if (!std::ranges::count(ranks_, rank)) ranks_.push_back(rank);
  }
  bool empty() const { return does_.empty(); }
  std::vector<int> infer() const {
    std::vector<int> best;
    std::size_t fewest = does_.size() + 1;
    for (std::size_t replicas = 1; replicas <= ranks_.size() && fewest > 0; ++replicas) {
      std::vector<std::size_t> count(replicas * ranks_.size());
      for (const auto& [rank, microbatch] : does_) {
        const std::size_t replica = static_cast<std::size_t>(microbatch) % replicas;
        ++count[replica * ranks_.size() + index_of(rank)];
      }
      std::vector<int> owners;
      std::size_t placed = 0;
      for (std::size_t replica = 0; replica < replicas; ++replica) {
        const auto first = count.begin() + static_cast<std::ptrdiff_t>(replica * ranks_.size());
        const auto most =
            std::max_element(first, first + static_cast<std::ptrdiff_t>(ranks_.size()));
        placed += *most;
        owners.push_back(ranks_[static_cast<std::size_t>(most - first)]);
      }
      if (does_.size() - placed < fewest) {
        fewest = does_.size() - placed;
        best = std::move(owners);
      }
    }
    return best;
  }

 private:
  std::size_t index_of(int rank) const {
    return static_cast<std::size_t>(std::ranges::find(ranks_, rank) - ranks_.begin());
  }

  std::vector<int> ranks_;                 // in order of appearance
  std::vector<std::pair<int, int>> does_;  // rank, microbatch
};

void infer_placement(Schedule& schedule) {
  int last_stage = -1;
  int last_microbatch = -1;
  std::size_t actions = 0;
  for (const std::vector<Action>& row : schedule.ranks) {
    actions += row.size();
    for (const Action& action : row) {
      last_stage = std::max(last_stage, action.stage);
      last_microbatch = std::max(last_microbatch, action.microbatch);
    }
  }
  const std::string& name = schedule.name;
  check(last_microbatch >= 0, name, ": holds no action of any microbatch");
  // Each stage and each microbatch needs an action, so far larger numbers are slips, and must not
  // decide how much memory we take.
  const std::size_t most = 16 * actions + 16;
  check(static_cast<std::size_t>(last_stage) < most &&
            static_cast<std::size_t>(last_microbatch) < most,
        name, ": names stage ", last_stage, " and microbatch ", last_microbatch, " but holds only ",
        actions, " actions");
  std::vector<Owners> owners(static_cast<std::size_t>(last_stage) + 1);
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    for (const Action& action : schedule.ranks[rank]) {
      if (is_compute(action.kind))
        owners[static_cast<std::size_t>(action.stage)].add(static_cast<int>(rank),
                                                           action.microbatch);
    }
  }
  schedule.microbatches = last_microbatch + 1;
  schedule.placement.ranks = static_cast<int>(schedule.ranks.size());
  for (std::size_t stage = 0; stage < owners.size(); ++stage) {
    check(!owners[stage].empty(), name, ": no row computes stage ", stage, ", though stage ",
          last_stage, " is named");
    schedule.placement.owners.push_back(owners[stage].infer());
  }
}

bool crosses_ranks(const Placement& placement, int microbatches) {
  for (int stage = 0; stage + 1 < placement.stages(); ++stage) {
    if (placement.replicas(stage) == 1 && placement.replicas(stage + 1) == 1) {
      if (placement.rank(stage, 0) != placement.rank(stage + 1, 0)) return true;
      continue;
    }
    for (int microbatch = 0; microbatch < microbatches; ++microbatch) {
      if (placement.rank(stage, microbatch) != placement.rank(stage + 1, microbatch)) return true;
    }
  }
  return false;
}

}  // namespace

bool has_transfers(const Schedule& schedule) {
  for (const std::vector<Action>& row : schedule.ranks) {
    for (const Action& action : row) {
      if (is_send(action.kind) || is_recv(action.kind)) return true;
    }
  }
  return false;
}

bool is_asynchronous(const Schedule& schedule) {
  return std::ranges::any_of(schedule.ranks, [](const std::vector<Action>& list) {
    return std::ranges::any_of(list,
                               [](const Action& action) { return action.kind == Kind::Update; });
  });
}

bool is_lowered(const Schedule& schedule) {
  if (has_transfers(schedule)) return true;
  const auto reduces = [](const Action& action) { return action.kind == Kind::ReduceGradients; };
  for (const std::vector<Action>& row : schedule.ranks) {
    if (std::ranges::any_of(row, reduces))
      return !crosses_ranks(schedule.placement, schedule.microbatches);
  }
  return false;
}

std::string to_csv(const Schedule& schedule) {
  std::string text;
  for (const std::vector<Action>& row : schedule.ranks) {
    bool inside = false;           // of an overlapped pair
    if (row.empty()) text += ',';  // idle steps: an empty line is no row
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) text += inside ? ';' : ',';
      const bool opens = row[i].overlaps_next && !inside;
      if (opens) text += '(';
      text += to_string(row[i]);
      if (inside) text += kOverlap;
      inside = opens;
    }
    text += '\n';
  }
  return text;
}

Schedule parse_csv(std::string_view text, std::string name) {
  Schedule schedule;
  schedule.name = std::move(name);
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  text = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
  check(!text.empty(), schedule.name, ": holds no action");
  for (const std::string& line : split_text(text, '\n')) {
    std::vector<Action>& row = schedule.ranks.emplace_back();
    check(!trim(line).empty(), schedule.name, ": line ", schedule.ranks.size(),
          " is empty, and each line is a rank's; take it out, or write ',' for a rank that does "
          "nothing");
    std::size_t cell_number = 0;
    for (const std::string& cell : split_text(line, ',')) {
      ++cell_number;
      if (trim(cell).empty()) continue;  // an idle step
      try {
        append_cell(trim(cell), row);
      } catch (const Error& error) {
        throw Error(cat(schedule.name, ": row ", schedule.ranks.size(), " (rank ",
                        schedule.ranks.size() - 1, "), cell ", cell_number, ": ", error.what()));
      }
    }
  }
  infer_placement(schedule);
  return schedule;
}

}  // namespace headrace
