#include "headrace/train/checkpoints.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <system_error>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/train/agreement.h"
#include "headrace/transport/all_gather.h"

namespace headrace {
namespace {

// What a rank tells.
constexpr std::size_t kDueByTime = 0, kWork = 1;

std::uint64_t bytes_of(const Snapshot& share) {
  std::uint64_t bytes = 0;
  for (const NamedTensors* tensors : {&share.weights, &share.first, &share.second})
    for (const auto& [name, tensor] : *tensors) bytes += tensor.nbytes();
  return bytes;
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
                         std::filesystem::path directory,
                         Naming naming,
                         CheckpointTexts texts,
                         Transport& transport,
                         double limit,
                         Say say)
    : config_(config),
      directory_(std::move(directory)),
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
  thread_ = std::thread([this, work = std::move(work)] {
    try {
      work();
      work_ = Work::Done;
    } catch (const std::exception& error) {
      error_ = text_of(error);
      work_ = Work::Failed;
    }
  });
}

void Checkpoints::begin(Snapshot share) {
  step_ = newest_ = share.step;
  phase_ = Phase::Sharing;
  wanted_ = false;
  last_ = std::chrono::steady_clock::now();
  bytes_ = bytes_of(share);
  start([this, share = std::move(share)] {
    write_share(directory_, share, naming_, transport_.rank(), transport_.size());
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
  const auto is = [&](std::size_t rank, Work work) {
    return told[rank][kWork] == static_cast<double>(work);
  };
  for (std::size_t rank = 0; rank < told.size(); ++rank)
    if (is(rank, Work::Failed)) return fail();
  if (phase_ == Phase::Sharing) {
    if (!all(Work::Done)) return;
    phase_ = Phase::Completing;
    if (transport_.rank() != 0) return;
    start([this] {
      complete_checkpoint(directory_, step_, transport_.size(), naming_, texts_);
      prune_checkpoints(directory_, config_.keep > 0 ? static_cast<int>(config_.keep)
                                                     : std::numeric_limits<int>::max());
    });
  } else if (is(0, Work::Done)) {
    phase_ = Phase::None;
    work_ = Work::Nothing;
    if (transport_.rank() == 0)
      say_(cat("checkpoint after step ", step_, ": ",
               as_seen_from_here(checkpoint_folder(directory_, step_))));
  }
}

// Every rank knows that one has failed; now they hear why.
void Checkpoints::fail() {
  const std::vector<std::string> errors =
      all_gather_text(transport_, work_ == Work::Failed ? error_ : std::string(), kCheckpoint);
  phase_ = Phase::None;
  newest_ = -1;
  if (work_ != Work::UnderWay) work_ = Work::Nothing;
  std::string text;
  for (const std::string& error : errors)
    if (text.empty()) text = error;
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
          fixed_text(seconds_since(start), 0), " s; is the disk of ", directory_.string(),
          " at work?");
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace headrace
