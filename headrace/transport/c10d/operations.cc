#include "headrace/transport/c10d/operations.h"

#include <chrono>
#include <exception>
#include <utility>
#include <vector>

#include "headrace/tensor/exception_text.h"
#include "headrace/transport/c10d/state.h"

namespace headrace {
namespace {

constexpr int kTags = 2;  // a channel
constexpr auto kForever = std::chrono::hours(24 * 365);

// Does what is asked of a back end.
template <class Do>
auto of_connection(const Do& run) {
  try {
    return run();
  } catch (const std::exception& error) {
    if (is_of_memory(error)) throw;
    throw ConnectionError(brief(error));
  }
}

}  // namespace

Operations::Operations(int rank, int peer, int channel, GroupBackend host, DirectGroup direct)
    : peer_(peer),
      channel_(channel),
      is_lower_(rank < peer),
      host_(std::move(host)),
      direct_(std::move(direct)) {}

bool Operations::is_ending() {
  const std::lock_guard lock(mutex_);
  return ending_;
}

GroupWork Operations::start_on_host(bool sending, std::vector<torch::Tensor>& tensors, int tag) {
  tag += kTags * channel_;
  GroupWork work = sending ? host_->send(tensors, peer_, tag) : host_->recv(tensors, peer_, tag);
  const std::lock_guard lock(mutex_);
  under_way_.insert(work);
  if (!ending_) return work;
  work->abort();
  throw Ending();
}

// Without the lock: the first operation on devices stays until the peer has come too, and the two directions must not
// wait for one another.
GroupBackend Operations::direct_group(bool sending) {
  GroupBackend& group = sending ? outwards_ : inwards_;
  {
    const std::lock_guard lock(mutex_);
    if (group) return group;
  }
  GroupBackend made = direct_(is_lower_ == sending, [this] { return is_ending(); });
  if (!made) throw Ending();
  const std::lock_guard lock(mutex_);
  group = made;
  if (!ending_) return made;
  made->abort();
  throw Ending();
}

// The pair is a group of its own, in which the lower rank is 0.
GroupWork Operations::start_on_device(bool sending, std::vector<torch::Tensor>& tensors) {
  const GroupBackend group = direct_group(sending);
  const int peer = is_lower_ ? 1 : 0;
  return sending ? group->send(tensors, peer, 0) : group->recv(tensors, peer, 0);
}

GroupWork Operations::start(bool sending, const torch::Tensor& tensor, int tag) {
  if (is_ending()) throw Ending();
  return of_connection([&] {
    std::vector<torch::Tensor> tensors = {tensor};
    return tensor.is_cpu() ? start_on_host(sending, tensors, tag)
                           : start_on_device(sending, tensors);
  });
}

void Operations::forget(const GroupWork& work) {
  const std::lock_guard lock(mutex_);
  under_way_.erase(work);
  if (ending_) throw Ending();
}

void Operations::finish(const GroupWork& work) {
  bool done = false;
  try {
    done = of_connection([&] { return work->wait(kForever); });
  } catch (const std::exception&) {
    forget(work);
    throw;
  }
  forget(work);
  if (!done) throw Ending();
}

void Operations::finish_on_device(const GroupWork& work) {
  of_connection([&] { work->synchronize(); });
}

void Operations::end() {
  const std::lock_guard lock(mutex_);
  ending_ = true;
  for (const GroupWork& work : under_way_) work->abort();
  for (const GroupBackend& group : {outwards_, inwards_}) {
    try {
      if (group) group->abort();
    } catch (const std::exception&) {  // it is over all the same
    }
  }
}

}  // namespace headrace
