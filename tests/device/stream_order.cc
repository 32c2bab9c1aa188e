#include "tests/device/stream_order.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "headrace/base/error.h"

namespace headrace::stream_order {
namespace {

constexpr c10::StreamId kPool = 32;

thread_local std::map<c10::DeviceIndex, c10::StreamId> current_of;

struct State {
  std::mutex mutex;
  std::map<StreamKey, Clock> known;  // by each stream, itself included
  Clock host;
  std::vector<std::string> faults;
};

State& state() {
  static auto* const all = new State;  // tensors may outlive statics
  return *all;
}

void join(Clock& into, const Clock& other) {
  for (const auto& [stream, time] : other) into[stream] = std::max(into[stream], time);
}

// What a stream knows from here on; wants the mutex held.
Clock& known_by(StreamKey stream) {
  Clock& known = state().known[stream];
  join(known, state().host);
  return known;
}

std::string name(StreamKey stream) {
  return cat("stream ", stream.second, " of device ", int{stream.first});
}

void require_after(const Clock& known,
                   const Clock& before,
                   StreamKey self,
                   const std::string& what) {
  for (const auto& [stream, time] : before) {
    const auto found = known.find(stream);
    if (stream != self && (found == known.end() || found->second < time))
      state().faults.push_back(
          cat(name(self), " ", what, " what ", name(stream), " uses, and nothing orders the two"));
  }
}

StreamKey self_for(const Accesses& block) {
  return {block.made_on.first, current(block.made_on.first)};
}

}  // namespace

c10::StreamId current(c10::DeviceIndex device) {
  return current_of[device];
}

c10::StreamId exchange(c10::DeviceIndex device, c10::StreamId stream) {
  return std::exchange(current_of[device], stream);
}

c10::StreamId next_of_pool() {
  static std::atomic<c10::StreamId> next = 0;
  return 1 + next++ % kPool;
}

void read(Accesses& block, const std::string& what) {
  const StreamKey self = self_for(block);
  const std::lock_guard lock(state().mutex);
  Clock& known = known_by(self);
  require_after(known, block.writes, self, what + " reads");
  block.reads[self] = ++known[self];
}

void write(Accesses& block, const std::string& what) {
  const StreamKey self = self_for(block);
  const std::lock_guard lock(state().mutex);
  Clock& known = known_by(self);
  require_after(known, block.writes, self, what + " writes");
  require_after(known, block.reads, self, what + " writes");
  block.writes[self] = ++known[self];
}

// The next to be given this memory on the block's stream must come after all that others do with it.
void let_go(const Accesses& block) {
  const std::lock_guard lock(state().mutex);
  const Clock& known = known_by(block.made_on);
  const auto require = [&](const Clock& uses) {
    Clock of_others = uses;
    std::erase_if(of_others, [&](const auto& use) { return block.kept_for.contains(use.first); });
    require_after(known, of_others, block.made_on, "gets back");
  };
  require(block.reads);
  require(block.writes);
}

Clock record(StreamKey stream) {
  const std::lock_guard lock(state().mutex);
  Clock& known = known_by(stream);
  ++known[stream];
  return known;
}

void come_after(StreamKey stream, const Clock& event) {
  const std::lock_guard lock(state().mutex);
  join(known_by(stream), event);
}

void host_waited_for(const Clock& event) {
  const std::lock_guard lock(state().mutex);
  join(state().host, event);
}

bool host_has_waited_for(const Clock& event) {
  const std::lock_guard lock(state().mutex);
  return std::ranges::all_of(
      event, [](const auto& time) { return state().host[time.first] >= time.second; });
}

std::vector<std::string> faults() {
  const std::lock_guard lock(state().mutex);
  return std::exchange(state().faults, {});
}

}  // namespace headrace::stream_order
