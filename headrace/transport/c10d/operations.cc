#include "headrace/transport/c10d/operations.h"

#include <chrono>
#include <exception>
#include <utility>
#include <vector>

namespace headrace {
namespace {

constexpr int kTags = 2;  // a channel
constexpr auto kForever = std::chrono::hours(24 * 365);

}  // namespace

Operations::Operations(int rank, int peer, int channel, GroupBackend host, DirectGroup direct)
    : peer_(peer),
      channel_(channel),
      is_lower_(rank < peer),
      host_(std::move(host)),
      direct_(std::move(direct)) {}

void Operations::require_going_on() {
  const std::lock_guard lock(mutex_);
  if (ending_) throw Ending();
}

GroupWork Operations::start_on_host(bool sending, std::vector<torch::Tensor>& tensors, int tag) {
  tag += kTags * channel_;
  return sending ? host_->send(tensors, peer_, tag) : host_->recv(tensors, peer_, tag);
}

// The pair is a group of its own, in which the lower rank is 0.
GroupWork Operations::start_on_device(bool sending, std::vector<torch::Tensor>& tensors) {
  GroupBackend& group = sending ? outwards_ : inwards_;
  if (!group) group = direct_(is_lower_ == sending);
  const int peer = is_lower_ ? 1 : 0;
  return sending ? group->send(tensors, peer, 0) : group->recv(tensors, peer, 0);
}

// Without the lock: the first operation on devices stays until the peer has come too, and the two directions must not
// wait for one another.
GroupWork Operations::start(bool sending, const torch::Tensor& tensor, int tag) {
  require_going_on();
  std::vector<torch::Tensor> tensors = {tensor};
  GroupWork work =
      tensor.is_cpu() ? start_on_host(sending, tensors, tag) : start_on_device(sending, tensors);
  const std::lock_guard lock(mutex_);
  under_way_.insert(work);
  if (!ending_) return work;
  work->abort();
  throw Ending();
}

void Operations::forget(const GroupWork& work) {
  const std::lock_guard lock(mutex_);
  under_way_.erase(work);
  if (ending_) throw Ending();
}

void Operations::finish(const GroupWork& work) {
  bool done = false;
  try {
    done = work->wait(kForever);
  } catch (const std::exception&) {
    forget(work);
    throw;
  }
  forget(work);
  if (!done) throw Ending();
}

void Operations::finish_on_device(const GroupWork& work) {
  work->synchronize();
  const std::lock_guard lock(mutex_);
  if (ending_) throw Ending();
  on_device_.push_back(work);
  while (on_device_.front() != work && on_device_.front()->isCompleted()) {
    under_way_.erase(on_device_.front());
    on_device_.pop_front();
  }
}

void Operations::end() {
  const std::lock_guard lock(mutex_);
  ending_ = true;
  for (const GroupWork& work : under_way_) work->abort();
}

}  // namespace headrace
