#include "headrace/transport/rank_threads.h"

#include <exception>
#include <string>
#include <utility>

#include "headrace/base/error.h"
#include "headrace/tensor/exception_text.h"

namespace headrace {
namespace {

// Of several ranks: the one failure that the others follow from.
class FirstFailure {
 public:
  // Calls `part`. What it throws is told to the rank's transport, where it has one by then.
  void attempt(int rank,
               const std::unique_ptr<Transport>& transport,
               const std::function<void()>& part) {
    try {
      part();
    } catch (const PeerError& error) {
      note(transport.get(), error.peer, error.what(), std::current_exception());
    } catch (const c10::Error& error) {
      const std::string text = text_of(error);
      note(transport.get(), rank, text, std::make_exception_ptr(Error(text)));
    } catch (const std::exception& error) {
      note(transport.get(), rank, text_of(error), std::current_exception());
    } catch (...) {
      note(transport.get(), rank, "an exception of unknown type", std::current_exception());
    }
  }

  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  void note(Transport* transport,
            int at_fault,
            const std::string& what,
            std::exception_ptr thrown) {
    const bool ours = transport == nullptr || transport->fail(at_fault, what).reported_here;
    const std::lock_guard lock(mutex_);
    if (ours && !first_) first_ = std::move(thrown);
  }

  std::mutex mutex_;
  std::exception_ptr first_;
};

}  // namespace

class RankThreads::Round {
 public:
  explicit Round(const std::function<void(Transport&)>& work) : work_(work) {}

  void take_part(const std::unique_ptr<Transport>& transport) {
    failure_.attempt(transport->rank(), transport, [&] { work_(*transport); });
  }
  void rethrow() const { failure_.rethrow(); }

 private:
  const std::function<void(Transport&)>& work_;
  FirstFailure failure_;
};

RankThreads::RankThreads(std::vector<std::unique_ptr<Transport>> transports) {
  try {
    for (std::unique_ptr<Transport>& transport : transports)
      threads_.emplace_back(
          [this, mine = std::move(transport)]() mutable { serve(std::move(mine)); });
  } catch (...) {
    end();
    throw;
  }
}

RankThreads::~RankThreads() {
  end();
}

void RankThreads::run(const std::function<void(Transport&)>& work) {
  Round round(work);
  std::unique_lock lock(mutex_);
  round_ = &round;
  busy_ = static_cast<int>(threads_.size());
  ++runs_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return busy_ == 0; });
  round_ = nullptr;
  lock.unlock();
  round.rethrow();
}

void RankThreads::serve(std::unique_ptr<Transport> transport) {
  std::unique_lock lock(mutex_);
  for (int seen = 0;;) {
    changed_.wait(lock, [&] { return ending_ || runs_ > seen; });
    if (ending_) return;
    seen = runs_;
    Round& round = *round_;
    lock.unlock();
    round.take_part(transport);
    lock.lock();
    if (--busy_ == 0) changed_.notify_all();
  }
}

void RankThreads::end() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void run_ranks(int ranks,
               const std::function<std::unique_ptr<Transport>(int)>& make,
               const std::function<void(Transport&)>& work) {
  FirstFailure failure;
  const auto run = [&](int rank) {
    std::unique_ptr<Transport> transport;
    failure.attempt(rank, transport, [&] {
      transport = make(rank);
      work(*transport);
    });
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(run, rank);
  for (std::thread& thread : threads) thread.join();
  failure.rethrow();
}

}  // namespace headrace
