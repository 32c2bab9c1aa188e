// Ranks that are threads of this process.
//
//   RankThreads ranks(local_transports(4));                        // kept from one run to the next
//   ranks.run([&](Transport& transport) { work(transport); });
//
// A run calls `work` for every rank in its thread, and is over when all have ended. The first
// failure ends the waits of all the others, and is thrown (not the failures that it brought about);
// the transports are of no use afterwards: make new threads.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "headrace/transport/transport.h"

namespace headrace {

class RankThreads {
 public:
  // Each transport is used, and destroyed, by the thread of its rank.
  explicit RankThreads(std::vector<std::unique_ptr<Transport>> transports);
  RankThreads(const RankThreads&) = delete;
  RankThreads& operator=(const RankThreads&) = delete;
  ~RankThreads();

  // By one thread at a time.
  void run(const std::function<void(Transport&)>& work);

 private:
  class Round;

  void serve(std::unique_ptr<Transport> transport);
  void end();

  std::mutex mutex_;
  std::condition_variable changed_;
  Round* round_ = nullptr;  // the run under way
  int runs_ = 0;
  int busy_ = 0;  // threads that are still in it
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

// For one run alone. A rank's transport is made, and when its work has ended destroyed, in its
// thread: peers that still wait for it are told.
void run_ranks(int ranks,
               const std::function<std::unique_ptr<Transport>(int)>& make,
               const std::function<void(Transport&)>& work);

}  // namespace headrace
