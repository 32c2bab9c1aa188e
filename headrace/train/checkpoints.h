// Writing checkpoints while a run goes on: each rank's share in a thread of its own, completed once all
// shares are on disk by the keeper of each folder that they lie in (places.h). Ranks tell one another how
// far they are with the end of each step, so that training waits for a copy of the share and for nothing
// else.
//
//   if (checkpoints.due(step)) checkpoints.begin(trainer.snapshot());
//   TrainerStep done = trainer.step(batch, {.tell = checkpoints.tell()});
//   checkpoints.hear(done.record.step, done.told);
//   checkpoints.finish(true);                   // at the end
//
// Every rank calls the same methods in the same order. What goes wrong on any of them is an Error on
// all, or, where the run is to go on, a line for the user; what was complete before stays.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "headrace/checkpoint/snapshot.h"
#include "headrace/checkpoint/write.h"
#include "headrace/tensor/naming.h"
#include "headrace/train/config/config.h"
#include "headrace/train/places.h"
#include "headrace/transport/transport.h"

namespace headrace {

class Checkpoints {
 public:
  using Say = std::function<void(const std::string&)>;

  // `say` is called on rank 0. `limit`: seconds that finish() waits at most, and a second more for each
  // megabyte.
  Checkpoints(const CheckpointConfig& config,
              Place place,
              Naming naming,
              CheckpointTexts texts,
              Transport& transport,
              double limit,
              Say say);
  Checkpoints(const Checkpoints&) = delete;
  Checkpoints& operator=(const Checkpoints&) = delete;
  ~Checkpoints();

  std::vector<double> tell() const;
  // `step`: how many are done.
  void hear(std::int64_t step, const std::vector<std::vector<double>>& told);

  // Whether one is to be begun after `step` steps: not while another is being written.
  bool due(std::int64_t step) const;
  void begin(Snapshot share);
  // The step of the newest that was begun and has not failed; -1: none.
  std::int64_t newest() const { return newest_; }
  // Waits for what is being written. Where it could not be, that is an Error if it `must`, and else
  // what the configuration says.
  void finish(bool must);

 private:
  // Where there are several folders, each gets its name when all are prepared. Older ones go when the new one
  // has its name everywhere.
  enum class Phase : std::uint8_t { None, Sharing, Completing, Naming, Pruning };
  enum class Work : std::uint8_t { Nothing, UnderWay, Done, Failed };  // of this rank's thread

  bool due_by_step(std::int64_t step) const {
    return config_.every > 0 && step % config_.every == 0;
  }
  bool keeps_folder() const;
  void complete();
  void name();
  void prune();
  void start(std::function<void()> work);
  void fail();

  const CheckpointConfig config_;
  const Place place_;
  const Naming naming_;
  const CheckpointTexts texts_;
  Transport& transport_;
  const double limit_;
  const Say say_;

  Phase phase_ = Phase::None;  // the same on every rank
  std::int64_t step_ = 0;      // of the one being written
  std::int64_t newest_ = -1;
  bool must_ = false;    // in finish(): what fails is an Error
  bool wanted_ = false;  // one is due by time, or since a step at which none could be begun
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::uint64_t bytes_ = 0;

  std::thread thread_;
  std::atomic<Work> work_ = Work::Nothing;
  // Of the thread; read once work_ says so.
  std::string error_;
  std::string record_;  // what it has written, for ranks that do not see its folder
};

}  // namespace headrace
