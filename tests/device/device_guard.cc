#include <atomic>
#include <chrono>

#include "tests/device/closed_memory.h"
#include "tests/device/parts.h"
#include "tests/device/stream_order.h"

namespace headrace::device_parts {
namespace {

constexpr auto kDevice = kTestDevice;

// Work is done when it is asked for; what its order would be on a device that is behind is kept beside it. An
// event seems not to be reached yet when it is first asked.
struct Guard : c10::impl::DeviceGuardImplInterface {
  struct Event {
    stream_order::Clock clock;
    std::chrono::steady_clock::time_point time;
    std::atomic<int> asked = 0;
  };
  static Event& event_at(void* event) { return *static_cast<Event*>(event); }
  static stream_order::StreamKey key(const c10::Stream& stream) {
    return {stream.device_index(), stream.id()};
  }
  static c10::Stream stream(c10::StreamId id, c10::DeviceIndex index) {
    return c10::Stream(c10::Stream::UNSAFE, {kDevice, index}, id);
  }

  c10::DeviceType type() const override { return kDevice; }
  c10::Device getDevice() const override { return {kDevice, current_device()}; }
  c10::Device exchangeDevice(c10::Device device) const override {
    return {kDevice, exchange_device(device.index())};
  }
  void setDevice(c10::Device device) const override { exchange_device(device.index()); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    exchange_device(device.index());
  }
  c10::DeviceIndex deviceCount() const noexcept override { return kTestDevices; }
  c10::Stream getStream(c10::Device device) const override {
    return stream(stream_order::current(device.index()), device.index());
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return stream(0, device.index());
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    return stream(stream_order::next_of_pool(), device.index());
  }
  c10::Stream exchangeStream(c10::Stream next) const override {
    return stream(stream_order::exchange(next.device_index(), next.id()), next.device_index());
  }
  void record(void** event,
              const c10::Stream& on,
              const c10::DeviceIndex,
              const c10::EventFlag) const override {
    if (*event == nullptr) *event = new Event;
    Event& made = event_at(*event);
    made.clock = stream_order::record(key(on));
    made.time = std::chrono::steady_clock::now();
    made.asked = 0;
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }
  void block(void* event, const c10::Stream& on) const override {
    if (event != nullptr) stream_order::come_after(key(on), event_at(event).clock);
  }
  bool queryEvent(void* event) const override {
    if (event == nullptr) return true;
    if (events_held) return false;
    if (stream_order::host_has_waited_for(event_at(event).clock)) return true;
    if (event_at(event).asked++ == 0) return false;
    stream_order::host_waited_for(event_at(event).clock);
    return true;
  }
  void synchronizeEvent(void* event) const override {
    ++waits;
    if (event != nullptr) stream_order::host_waited_for(event_at(event).clock);
  }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream& on) const override {
    ++waits;
    stream_order::host_waited_for(stream_order::record(key(on)));
  }
  void recordDataPtrOnStream(const c10::DataPtr& pointer, const c10::Stream& on) const override {
    closed_memory().recordStream(pointer, on);
  }
  double elapsedTime(void* from, void* to, const c10::DeviceIndex) const override {
    const std::chrono::duration<double, std::milli> between =
        event_at(to).time - event_at(from).time;
    return between.count();
  }
};

}  // namespace

c10::impl::DeviceGuardImplInterface& device_guard() {
  static Guard guard;
  return guard;
}

}  // namespace headrace::device_parts
