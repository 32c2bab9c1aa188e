#include "headrace/transport/c10d/store_thread.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <utility>

#include <pthread.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "headrace/base/error.h"
#include "headrace/transport/c10d/state.h"

namespace headrace {

namespace {

using Clock = std::chrono::steady_clock;
using Task = std::packaged_task<void()>;
constexpr auto kWatchEvery = std::chrono::milliseconds(500);
// How long the end of the store thread waits for an operation under way.
constexpr auto kPatience = std::chrono::milliseconds(300);

std::chrono::duration<double> duration(double seconds) {
  return std::chrono::duration<double>(seconds);
}

}  // namespace

struct StoreThread::Inside {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Task> jobs;
  Job watch;
  std::function<void(const std::string&)> lost;
  bool stop = false;
  bool in_callback = false;
  bool finished = false;
  std::atomic<bool> silent = false;  // the last job asked for has not come back: no more patience

  c10::intrusive_ptr<c10d::Store> store;  // the thread's alone

  void run();
  // Runs `job` on the store; a failure is told to `lost`, and thrown on.
  void attempt(const Job& job);
};

void StoreThread::Inside::attempt(const Job& job) {
  try {
    job(*store);
  } catch (const std::exception& error) {
    std::unique_lock lock(mutex);
    watch = nullptr;
    const auto tell = std::exchange(lost, nullptr);
    if (tell && !stop) {
      in_callback = true;
      lock.unlock();
      tell(brief(error));
      lock.lock();
      in_callback = false;
      changed.notify_all();
    }
    throw;
  }
}

void StoreThread::Inside::run() {
  auto next_watch = Clock::now() + kWatchEvery;
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait_until(lock, next_watch, [&] { return stop || !jobs.empty(); });
    if (stop) break;
    Task task;
    if (!jobs.empty()) {
      task = std::move(jobs.front());
      jobs.pop_front();
    } else if (watch) {
      task = Task([this, work = watch] { attempt(work); });
    }
    if (Clock::now() >= next_watch) next_watch = Clock::now() + kWatchEvery;
    if (!task.valid()) continue;
    lock.unlock();
    task();
    lock.lock();
  }
  jobs.clear();
  lock.unlock();
  store.reset();
  lock.lock();
  finished = true;
  changed.notify_all();
}

StoreThread::StoreThread() : inside_(std::make_shared<Inside>()) {
  thread_ = std::thread([inside = inside_] {
    ::pthread_setname_np(::pthread_self(), "headrace-store");
    inside->run();
  });
}

StoreThread::~StoreThread() {
  std::unique_lock lock(inside_->mutex);
  inside_->stop = true;
  inside_->changed.notify_all();
  const bool ended = inside_->changed.wait_for(lock, kPatience, [&] { return inside_->finished; });
  inside_->changed.wait(lock, [&] { return !inside_->in_callback; });
  lock.unlock();
  if (ended)
    thread_.join();
  else
    thread_.detach();
}

std::future<void> StoreThread::add(Task task) {
  std::future<void> done = task.get_future();
  const std::lock_guard lock(inside_->mutex);
  inside_->jobs.push_back(std::move(task));
  inside_->changed.notify_all();
  return done;
}

void StoreThread::open(std::function<c10::intrusive_ptr<c10d::Store>()> connect,
                       double limit,
                       const std::string& silent) {
  std::future<void> done = add(
      Task([inside = inside_.get(), connect = std::move(connect)] { inside->store = connect(); }));
  check(done.wait_for(duration(limit)) == std::future_status::ready, silent);
  done.get();
}

void StoreThread::must(Job job, double limit, const std::string& silent) {
  std::future<void> done =
      add(Task([inside = inside_.get(), job = std::move(job)] { job(*inside->store); }));
  check(done.wait_for(duration(limit)) == std::future_status::ready, silent);
  done.get();
}

void StoreThread::enter(const std::string& prefix) {
  add(Task([inside = inside_.get(), prefix] {
    inside->store = c10::make_intrusive<c10d::PrefixStore>(prefix, inside->store);
  })).get();
}

void StoreThread::keep_watch(Job work, std::function<void(const std::string&)> lost) {
  const std::lock_guard lock(inside_->mutex);
  inside_->watch = std::move(work);
  inside_->lost = std::move(lost);
}

bool StoreThread::run(Job job, double limit) {
  std::future<void> done =
      add(Task([inside = inside_.get(), job = std::move(job)] { inside->attempt(job); }));
  const bool silent = inside_->silent;
  if (done.wait_for(duration(silent ? 0 : limit)) != std::future_status::ready) {
    inside_->silent = true;
    return false;
  }
  inside_->silent = false;
  try {
    done.get();
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace headrace
