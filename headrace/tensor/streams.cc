#include "headrace/tensor/streams.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace headrace {
namespace {

c10::Stream current_stream(torch::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

std::shared_ptr<c10::Event> recorded(torch::Device device, c10::EventFlag flag) {
  if (device.is_cpu()) return nullptr;
  auto event = std::make_shared<c10::Event>(device.type(), flag);
  event->record(current_stream(device));
  return event;
}

torch::Tensor pinned_like(const torch::Tensor& tensor) {
  return torch::empty(tensor.sizes(),
                      torch::TensorOptions(tensor.scalar_type()).pinned_memory(true));
}

}  // namespace

Mark Mark::now(torch::Device device) {
  return Mark(recorded(device, c10::EventFlag::PYTORCH_DEFAULT));
}

// A backend's own default keeps times.
Mark Mark::timed(torch::Device device) {
  return Mark(recorded(device, c10::EventFlag::BACKEND_DEFAULT));
}

void Mark::come_after() const {
  if (event_) event_->block(current_stream(event_->device()));
}

bool Mark::reached() const {
  return !event_ || event_->query();
}

double Mark::seconds_until(const Mark& later) const {
  constexpr double kMilliseconds = 1e-3;
  return event_ ? kMilliseconds * event_->elapsedTime(*later.event_) : 0;
}

namespace {

// The streams that OwnStreams have had. Two on one stream would wait for one another's peers.
struct OwnStreams {
  std::mutex mutex;
  std::vector<c10::Stream> used, free;
};

OwnStreams& own_streams() {
  static auto* const all = new OwnStreams;  // threads may outlive statics
  return *all;
}

// Not of high priority: NCCL has those.
c10::Stream another_stream(torch::Device device, const std::vector<c10::Stream>& used) {
  constexpr int kPool = 32;
  const c10::impl::VirtualGuardImpl streams(device.type());
  c10::Stream stream = streams.getStreamFromGlobalPool(device, /*isHighPriority=*/false);
  for (int i = 1; i < kPool && std::ranges::find(used, stream) != used.end(); ++i)
    stream = streams.getStreamFromGlobalPool(device, /*isHighPriority=*/false);
  return stream;
}

}  // namespace

OwnStream::OwnStream(torch::Device device) {
  if (device.is_cpu()) return;
  // A device of no number is the thread's current one.
  const c10::DeviceIndex index = current_stream(device).device_index();
  OwnStreams& own = own_streams();
  const std::lock_guard lock(own.mutex);
  const auto free = std::ranges::find_if(own.free, [&](const c10::Stream& stream) {
    return stream.device_type() == device.type() && stream.device_index() == index;
  });
  const c10::Stream stream = free == own.free.end() ? another_stream(device, own.used) : *free;
  if (free != own.free.end()) own.free.erase(free);
  own.used.push_back(stream);
  guard_.emplace(stream);
}

OwnStream::~OwnStream() {
  if (!guard_) return;
  const c10::Stream stream = guard_->current_stream();
  guard_.reset();
  OwnStreams& own = own_streams();
  const std::lock_guard lock(own.mutex);
  own.used.erase(std::ranges::find(own.used, stream));
  if (std::ranges::find(own.used, stream) == own.used.end()) own.free.push_back(stream);
}

Marks marks_of(const Tensors& tensors) {
  Marks marks;
  std::vector<torch::Device> devices;
  for (const torch::Tensor& tensor : tensors) {
    if (!tensor.defined() || tensor.is_cpu()) continue;
    if (std::ranges::find(devices, tensor.device()) != devices.end()) continue;
    devices.push_back(tensor.device());
    marks.push_back(Mark::now(tensor.device()));
  }
  return marks;
}

void take_over(const Tensors& tensors, const Marks& ready) {
  for (const Mark& mark : ready) mark.come_after();
  for (const torch::Tensor& tensor : tensors) {
    if (!tensor.defined() || tensor.is_cpu()) continue;
    const c10::impl::VirtualGuardImpl streams(tensor.device().type());
    streams.recordDataPtrOnStream(tensor.storage().data_ptr(), current_stream(tensor.device()));
  }
}

torch::Tensor to_device(const torch::Tensor& on_host, torch::Device device) {
  if (device.is_cpu() || !on_host.is_cpu()) return on_host.to(device);
  const torch::Tensor pinned = on_host.is_pinned() ? on_host : pinned_like(on_host).copy_(on_host);
  return pinned.to(device, /*non_blocking=*/true);
}

torch::Tensor start_to_host(const torch::Tensor& on_device) {
  if (on_device.is_cpu()) return on_device;
  return pinned_like(on_device).copy_(on_device, /*non_blocking=*/true);
}

}  // namespace headrace
