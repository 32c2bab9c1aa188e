#include "headrace/train/places.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <random>
#include <string_view>
#include <system_error>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/train/agreement.h"
#include "headrace/train/resume.h"
#include "headrace/transport/all_gather.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = ".seen-";

bool is_first_on_its_host(const Transport& transport, int rank) {
  for (int other = 0; other < rank; ++other)
    if (transport.host(other) == transport.host(rank)) return false;
  return true;
}

// A number that no run has used: file systems of a network remember for a while that a name was not there.
std::string draw_token() {
  std::random_device draw;
  return cat(draw(), "-", draw());
}

fs::path mark_of(const fs::path& folder, const std::string& token, int rank) {
  return folder / cat(kMark, token, "-", rank);
}

// What a run left that ended at the wrong moment.
void remove_old_marks(const fs::path& folder, const std::string& token) {
  std::error_code error;
  std::vector<fs::path> old;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with(kMark) && !name.starts_with(cat(kMark, token))) old.push_back(at->path());
  }
  for (const fs::path& mark : old) fs::remove(mark, error);
}

// The first rank of each host leaves a mark in the folder; whoever sees it then, sees the same folder.
// Where none can be left, which the first checkpoint will say, a host is taken to be alone.
std::vector<int> keepers_of(const fs::path& folder, Transport& transport) {
  const int self = transport.rank();
  std::vector<int> keepers(static_cast<std::size_t>(transport.size()), 0);
  if (folder.empty() || !spans_hosts(transport)) return keepers;
  const std::string token = all_gather_text(transport, draw_token(), kAgreement)[0];
  const bool leaves_mark = is_first_on_its_host(transport, self);
  std::error_code error;
  if (leaves_mark) {
    fs::create_directories(folder, error);
    remove_old_marks(folder, token);
    std::ofstream(mark_of(folder, token, self)).flush();
  }
  all_gather(transport, {}, kAgreement);  // all marks are there
  int keeper = -1;
  for (int rank = 0; rank <= self && keeper < 0; ++rank) {
    if (!is_first_on_its_host(transport, rank)) continue;
    const bool is_mine = transport.host(rank) == transport.host(self);
    if (is_mine || fs::exists(mark_of(folder, token, rank), error)) keeper = rank;
  }
  const auto all = all_gather(transport, {static_cast<double>(keeper)}, kAgreement);
  std::ranges::transform(all, keepers.begin(),
                         [](const std::vector<double>& of) { return static_cast<int>(of[0]); });
  if (leaves_mark) fs::remove(mark_of(folder, token, self), error);
  return keepers;
}

bool keeps(const Place& place, int rank) {
  return place.keepers[static_cast<std::size_t>(rank)] == rank;
}

// As rank 0 has done where it runs.
std::optional<RunClaim> claim(const Config& config, const Places& places, int rank) {
  if (!places.checkpoints.is_one() && keeps(places.checkpoints, rank) &&
      config.resume == Resume::No)
    claim_checkpoints(config, config.overwrite);
  if (places.run.is_one() || !keeps(places.run, rank)) return std::nullopt;
  const fs::path& folder = places.run.folder;
  // A host may be new to the run.
  if (config.resume == Resume::No || !fs::exists(folder / kRunFiles[0])) {
    RunClaim claim = RunClaim::named(folder, config.overwrite);
    if (config.resume == Resume::No) clear_run(folder);
    return claim;
  }
  return RunClaim::resumed(folder);
}

}  // namespace

bool Place::is_one() const {
  return std::ranges::all_of(keepers, [](int keeper) { return keeper == 0; });
}

Places agree_on_places(const Config& config, Transport& transport) {
  // Only rank 0 knows a folder that it has chosen itself.
  const auto absolute = [](const fs::path& path) {
    return path.empty() ? "" : fs::absolute(path).lexically_normal().string();
  };
  const auto agreed = [&](const fs::path& mine) -> fs::path {
    return all_gather_text(transport, absolute(mine), kAgreement)[0];
  };
  const bool somewhere = !config.run_dir.empty() || !config.checkpoint.directory.empty();
  Places places;
  places.run.folder = agreed(config.run_dir);
  places.checkpoints.folder = agreed(somewhere ? checkpoint_directory(config) : fs::path());
  places.run.keepers = keepers_of(places.run.folder, transport);
  places.checkpoints.keepers = config.checkpoint.directory.empty()
                                   ? places.run.keepers
                                   : keepers_of(places.checkpoints.folder, transport);
  try {
    if (transport.rank() > 0) places.claim = claim(config, places, transport.rank());
  } catch (const UsageError& error) {
    throw UsageError(cat("on host ", transport.host(transport.rank()), ": ", error.what()));
  } catch (const Error& error) {
    throw Error(cat("on host ", transport.host(transport.rank()), ": ", error.what()));
  }
  return places;
}

std::string places_text(const Places& places, const Transport& transport) {
  const Place& place = places.checkpoints;
  if (place.is_one()) return "";
  std::vector<std::string> hosts;
  for (int rank = 0; rank < transport.size(); ++rank)
    if (keeps(place, rank)) hosts.push_back(transport.host(rank));
  return cat(
      place.folder.string(), " is another folder on each of ", join_text(hosts, ", "),
      ": each keeps the shards of the ranks that see it, and all of them are needed to resume");
}

}  // namespace headrace
