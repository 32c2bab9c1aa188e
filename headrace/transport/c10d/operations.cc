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

Operations::Operations(int rank, int peer, int channel, GroupBackend host, DeviceGroups devices)
    : peer_(peer),
      channel_(channel),
      is_lower_(rank < peer),
      host_(std::move(host)),
      devices_(std::move(devices)) {}

GroupWork Operations::start(bool sending, const torch::Tensor& tensor, int tag) {
  const GroupBackend& group = tensor.is_cpu()        ? host_
                              : is_lower_ == sending ? devices_.to_higher
                                                     : devices_.to_lower;
  std::vector<torch::Tensor> tensors = {tensor};
  const std::lock_guard lock(mutex_);
  if (ending_) throw Ending();
  tag += kTags * channel_;
  GroupWork work = sending ? group->send(tensors, peer_, tag) : group->recv(tensors, peer_, tag);
  under_way_.insert(work);
  return work;
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
