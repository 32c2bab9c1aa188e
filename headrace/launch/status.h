// A page of shared memory in which every rank notes what it is doing, so that whoever finds it dead
// or silent can say where it was.
//
//   StatusPage page = StatusPage::create(4);                 // the launcher
//   StatusPage page = StatusPage::from_environment(4);       // a worker
//   page.note_action(rank, "1B3");                           // a few plain stores
//
// Each rank writes its own slot; anyone reads. Nothing is locked: a reader may see a text half old
// and half new, which is good enough to tell where a rank was.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace headrace {

enum class Phase : std::uint8_t { Starting, Loading, Training, Evaluating, Saving, Ending };

struct Status {
  Phase phase = Phase::Starting;
  std::int64_t step = -1;  // -1: none yet
  int stage = -1;
  std::string action;  // as a schedule writes it: "1B3"
};

// "rank 1 (stage 1)"
std::string who(int rank, const Status& status);
// "at step 7, during 1B3", "while loading"
std::string where(const Status& status);

class StatusPage {
 public:
  static StatusPage create(int ranks);
  // The launcher's page (HEADRACE_STATUS_FD), or a private one where there is no launcher.
  static StatusPage from_environment(int ranks);

  StatusPage(StatusPage&& other) noexcept;
  StatusPage& operator=(StatusPage&&) = delete;
  StatusPage(const StatusPage&) = delete;
  StatusPage& operator=(const StatusPage&) = delete;
  ~StatusPage();

  int ranks() const { return ranks_; }
  int fd() const { return fd_; }  // for a child; closed on exec otherwise

  void note_phase(int rank, Phase phase);
  void note_step(int rank, std::int64_t step);
  void note_stage(int rank, int stage);
  void note_action(int rank, std::string_view action);  // its first 24 characters
  Status read(int rank) const;

 private:
  struct Slot;
  StatusPage(int fd, int ranks);
  Slot& slot(int rank) const;

  int fd_;
  int ranks_;
  Slot* slots_;
};

}  // namespace headrace
