#include "tests/device/direct_pair.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "headrace/tensor/streams.h"

namespace headrace {
namespace {

struct Parcel {
  torch::Tensor tensor;
  Mark ready;
  Mark taken;
  bool is_taken = false;
};

struct Post {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::deque<std::shared_ptr<Parcel>>> boxes;
  std::map<std::string, int> joined;
};

Post& post() {
  static Post all;
  return all;
}

// What comes next on the one device's stream comes after what the other's was given.
void join(torch::Device before, torch::Device after) {
  const c10::impl::VirtualGuardImpl streams(before.type());
  c10::Event event(before.type());
  event.record(streams.getStream(before));
  event.block(streams.getStream(after));
}

// Of a pair, guarded by the post's mutex: whether it was aborted.
using Over = std::shared_ptr<bool>;

class SendWork : public c10d::Work {
 public:
  SendWork(std::shared_ptr<Parcel> parcel, Over over)
      : parcel_(std::move(parcel)), over_(std::move(over)) {}

  bool isCompleted() override {
    const std::lock_guard lock(post().mutex);
    return parcel_->is_taken && parcel_->taken.reached();
  }

  bool wait(std::chrono::milliseconds) override {
    {
      std::unique_lock lock(post().mutex);
      post().changed.wait(lock, [&] { return parcel_->is_taken || *over_; });
      if (!parcel_->is_taken) return false;
    }
    while (!parcel_->taken.reached()) std::this_thread::yield();
    parcel_->tensor.reset();
    return true;
  }

 private:
  std::shared_ptr<Parcel> parcel_;
  const Over over_;
};

class ReceiveWork : public c10d::Work {
 public:
  ReceiveWork(std::string name, torch::Tensor into, Over over)
      : name_(std::move(name)),
        into_(std::move(into)),
        over_(std::move(over)),
        started_(Mark::now(into_.device())) {}

  bool isCompleted() override { return done_.on_device() && done_.reached(); }
  void synchronize() override {
    std::shared_ptr<Parcel> parcel;
    {
      std::unique_lock lock(post().mutex);
      auto& box = post().boxes[name_];
      post().changed.wait(lock, [&] { return !box.empty() || *over_; });
      if (box.empty()) return;
      parcel = box.front();
      box.pop_front();
    }
    {
      const OwnStream of_the_sender(parcel->tensor.device());
      const OwnStream of_the_receiver(into_.device());
      started_.come_after();
      parcel->ready.come_after();
      const torch::NoGradGuard no_grad;
      into_.copy_(parcel->tensor, /*non_blocking=*/true);
      parcel->taken = Mark::now(parcel->tensor.device());
      join(parcel->tensor.device(), into_.device());
      done_ = Mark::now(into_.device());
    }
    done_.come_after();
    const std::lock_guard lock(post().mutex);
    parcel->is_taken = true;
    post().changed.notify_all();
  }

 private:
  const std::string name_;
  torch::Tensor into_;
  const Over over_;
  const Mark started_;
  Mark done_;
};

class Pair : public c10d::Backend {
 public:
  Pair(std::string name, bool is_lower)
      : c10d::Backend(is_lower ? 0 : 1, 2), name_(std::move(name)) {}

  GroupWork send(std::vector<at::Tensor>& tensors, int, int) override {
    const auto parcel = std::make_shared<Parcel>();
    parcel->tensor = tensors.front();
    parcel->ready = Mark::now(tensors.front().device());
    const std::lock_guard lock(post().mutex);
    post().boxes[name_].push_back(parcel);
    post().changed.notify_all();
    return c10::make_intrusive<SendWork>(parcel, over_);
  }
  GroupWork recv(std::vector<at::Tensor>& tensors, int, int) override {
    return c10::make_intrusive<ReceiveWork>(name_, tensors.front(), over_);
  }
  void abort() override {
    const std::lock_guard lock(post().mutex);
    *over_ = true;
    post().changed.notify_all();
  }

 private:
  const std::string name_;
  const Over over_ = std::make_shared<bool>(false);
};

}  // namespace

GroupBackend direct_pair(const std::string& name, bool is_lower) {
  {
    std::unique_lock lock(post().mutex);
    ++post().joined[name];
    post().changed.notify_all();
    post().changed.wait(lock, [&] { return post().joined[name] == 2; });
  }
  return c10::make_intrusive<Pair>(name, is_lower);
}

}  // namespace headrace
