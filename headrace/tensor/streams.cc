#include "headrace/tensor/streams.h"

#include <algorithm>
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

OwnStream::OwnStream(torch::Device device) {
  if (device.is_cpu()) return;
  const c10::impl::VirtualGuardImpl streams(device.type());
  guard_.emplace(streams.getStreamFromGlobalPool(device, /*isHighPriority=*/true));
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
