#include "headrace/train/checkpoints.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <map>
#include <system_error>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/tensor/streams.h"
#include "headrace/train/agreement.h"
#include "headrace/transport/all_gather.h"

namespace headrace {
namespace {

// What a rank tells.
constexpr std::size_t kDueByTime = 0, kWork = 1;

Tensors tensors_of(const Snapshot& share) {
  Tensors all;
  for (const NamedTensors* tensors : {&share.weights, &share.first, &share.second})
    for (const auto& [name, tensor] : *tensors) all.push_back(tensor);
  return all;
}

std::uint64_t bytes_of(const Snapshot& share) {
  std::uint64_t bytes = 0;
  for (const torch::Tensor& tensor : tensors_of(share)) bytes += tensor.nbytes();
  return bytes;
}

// What lies on a device comes here beside what goes on there.
void bring_to_host(Snapshot& share, const Marks& ready, torch::Device device) {
  const OwnStream beside(device);
  take_over(tensors_of(share), ready);
  for (NamedTensors* tensors : {&share.weights, &share.first, &share.second})
    for (auto& [name, tensor] : *tensors) tensor = tensor.cpu();
}

// As the user has written it, where that is shorter.
std::string as_seen_from_here(const std::filesystem::path& path) {
  std::error_code unknown;
  const std::string near = std::filesystem::proximate(path, unknown).string();
  return unknown || near.size() > path.string().size() ? path.string() : near;
}

double seconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

}  // namespace

Checkpoints::Checkpoints(const CheckpointConfig& config,
                         Place place,
                         Naming naming,
                         CheckpointTexts texts,
                         Transport& transport,
                         double limit,
                         Say say)
    : config_(config),
      place_(std::move(place)),
      naming_(std::move(naming)),
      texts_(std::move(texts)),
      transport_(transport),
      limit_(limit),
      say_(std::move(say)) {}

Checkpoints::~Checkpoints() {
  if (thread_.joinable()) thread_.join();
}

std::vector<double> Checkpoints::tell() const {
  const bool by_time =
      config_.every_minutes > 0 && seconds_since(last_) >= 60 * config_.every_minutes;
  return {by_time ? 1.0 : 0.0, static_cast<double>(work_.load())};
}

bool Checkpoints::due(std::int64_t step) const {
  return phase_ == Phase::None && (due_by_step(step) || wanted_);
}

void Checkpoints::start(std::function<void()> work) {
  if (thread_.joinable()) thread_.join();
  work_ = Work::UnderWay;
  try {
    thread_ = std::thread([this, work = std::move(work)] {
      try {
        work();
        work_ = Work::Done;
      } catch (const std::exception& error) {
        error_ = text_of(error);
        work_ = Work::Failed;
      }
    });
  } catch (const std::system_error& error) {  // there is none to be had: a failure as any other
    error_ = text_of(error);
    work_ = Work::Failed;
  }
}

void Checkpoints::begin(Snapshot share) {
  step_ = newest_ = share.step;
  phase_ = Phase::Sharing;
  wanted_ = false;
  last_ = std::chrono::steady_clock::now();
  bytes_ = bytes_of(share);
  const Marks ready = marks_of(tensors_of(share));
  start([this, share = std::move(share), ready]() mutable {
    bring_to_host(share, ready, transport_.device());
    write_share(place_.folder, share, naming_, transport_.rank(), transport_.size());
    record_ = place_.is_one() ? "" : share_record(place_.folder, step_, transport_.rank());
  });
}

void Checkpoints::hear(std::int64_t step, const std::vector<std::vector<double>>& told) {
  // Rank 0's clock decides, as clocks differ. What is due while another is still being written
  // comes as soon as that is done.
  if (told[0][kDueByTime] > 0 || (phase_ != Phase::None && due_by_step(step))) wanted_ = true;
  if (phase_ == Phase::None) return;
  const auto all = [&](Work work) {
    return std::ranges::all_of(told, [&](const std::vector<double>& of_rank) {
      return of_rank[kWork] == static_cast<double>(work);
    });
  };
  if (std::ranges::any_of(told, [](const std::vector<double>& of_rank) {
        return of_rank[kWork] == static_cast<double>(Work::Failed);
      }))
    return fail();
  if (!all(Work::Done)) return;
  switch (phase_) {
    case Phase::None:
      break;
    case Phase::Sharing:
      phase_ = Phase::Completing;
      complete();
      break;
    case Phase::Completing:
      if (!place_.is_one()) {
        phase_ = Phase::Naming;
        name();
        break;
      }
      [[fallthrough]];
    case Phase::Naming:
      phase_ = Phase::Pruning;
      if (transport_.rank() == 0)
        say_(cat("checkpoint after step ", step_, ": ",
                 as_seen_from_here(checkpoint_folder(place_.folder, step_))));
      prune();
      break;
    case Phase::Pruning:
      phase_ = Phase::None;
      work_ = Work::Nothing;
  }
}

bool Checkpoints::keeps_folder() const {
  return place_.keepers[static_cast<std::size_t>(transport_.rank())] == transport_.rank();
}

void Checkpoints::complete() {
  if (place_.is_one()) {
    if (!keeps_folder()) return;
    return start(
        [this] { complete_checkpoint(place_.folder, step_, transport_.size(), naming_, texts_); });
  }
  const std::vector<std::string> records = all_gather_text(transport_, record_, kCheckpoint);
  if (!keeps_folder()) return;
  std::map<int, std::string> elsewhere;
  for (int rank = 0; rank < transport_.size(); ++rank)
    if (const auto at = static_cast<std::size_t>(rank); place_.keepers[at] != transport_.rank())
      elsewhere.emplace(rank, records[at]);
  start([this, elsewhere = std::move(elsewhere)] {
    prepare_checkpoint(place_.folder, step_, transport_.size(), naming_, texts_, elsewhere);
  });
}

void Checkpoints::name() {
  if (keeps_folder()) start([this] { name_checkpoint(place_.folder, step_); });
}

void Checkpoints::prune() {
  if (!keeps_folder()) return;
  const int keep =
      config_.keep > 0 ? static_cast<int>(config_.keep) : std::numeric_limits<int>::max();
  start([this, keep] { prune_checkpoints(place_.folder, keep, /*parts=*/!place_.is_one()); });
}

// Every rank knows that one has failed; now they hear why.
void Checkpoints::fail() {
  const std::vector<std::string> errors =
      all_gather_text(transport_, work_ == Work::Failed ? error_ : std::string(), kCheckpoint);
  phase_ = Phase::None;
  newest_ = -1;
  if (work_ != Work::UnderWay) work_ = Work::Nothing;
  std::string text;
  for (int rank = 0; rank < transport_.size() && text.empty(); ++rank)
    if (const std::string& error = errors[static_cast<std::size_t>(rank)]; !error.empty())
      text = error + (spans_hosts(transport_) ? cat(" (host ", transport_.host(rank), ")") : "");
  text = cat("no checkpoint could be written after step ", step_, ": ", text);
  check(!must_ && config_.on_failure != "stop", text);
  if (transport_.rank() == 0) say_("warning: " + text);
}

void Checkpoints::finish(bool must) {
  constexpr double kSlowest = 1e6;  // bytes a second
  constexpr auto kPause = std::chrono::milliseconds(50);
  must_ = must;
  const auto start = std::chrono::steady_clock::now();
  while (phase_ != Phase::None) {
    hear(step_, all_gather(transport_, tell(), kCheckpoint));
    if (phase_ == Phase::None) break;
    check(seconds_since(start) < limit_ + static_cast<double>(bytes_) / kSlowest,
          "the checkpoint of step ", step_, " is still not written after ",
          fixed_text(seconds_since(start), 0), " s; is the disk of ", place_.folder.string(),
          " at work?");
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace headrace
