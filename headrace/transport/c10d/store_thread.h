// The one thread of a rank that talks to the run's store.
//
//   std::optional<bool> there = store_thread.ask([](c10d::Store& s) { return s.check({"failure"}); });
//
// A store operation has no end of its own when the process that serves the store is stopped, hence
// this thread: ask() gives up after a limit, and a thread that never comes back is left behind.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>

#include <torch/csrc/distributed/c10d/Store.hpp>

namespace headrace {

constexpr double kStoreLimit = 2;  // seconds for one operation, once the run has started

class StoreThread {
 public:
  using Job = std::function<void(c10d::Store&)>;

  StoreThread();
  StoreThread(const StoreThread&) = delete;
  StoreThread& operator=(const StoreThread&) = delete;
  ~StoreThread();  // ends the watch; no callback is called any more

  // Connects in its thread, or does another thing of the start there: throws what `job`
  // throws, or an Error that says `silent` when it has not come back in time.
  void open(std::function<c10::intrusive_ptr<c10d::Store>()> connect,
            double limit,
            const std::string& silent);
  void must(Job job, double limit, const std::string& silent);
  // From now on all keys begin with this.
  void enter(const std::string& prefix);
  // From now on calls `work` twice a second, and `lost`, once, when an operation has failed: the
  // connection is broken. Both are called in its thread.
  void keep_watch(Job work, std::function<void(const std::string&)> lost);

  // What `job` returns; nothing when the store has not answered in time or has failed. A job may
  // run, or go on, after that: it must own what it uses.
  template <class F>
  auto ask(F job, double limit = kStoreLimit)
      -> std::optional<std::invoke_result_t<F, c10d::Store&>>;

 private:
  struct Inside;
  bool run(Job job, double limit);
  std::future<void> add(std::packaged_task<void()> task);

  const std::shared_ptr<Inside> inside_;  // also the thread's, which may outlive this
  std::thread thread_;
};

template <class F>
auto StoreThread::ask(F job, double limit) -> std::optional<std::invoke_result_t<F, c10d::Store&>> {
  using Answer = std::invoke_result_t<F, c10d::Store&>;
  const auto answer = std::make_shared<std::optional<Answer>>();
  const bool ran = run([answer, job](c10d::Store& store) { answer->emplace(job(store)); }, limit);
  return ran ? std::move(*answer) : std::nullopt;
}

}  // namespace headrace
