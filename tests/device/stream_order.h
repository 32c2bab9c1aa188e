// What is ordered after what on a device whose streams run beside one another, as if they did: each access to a
// block of memory is checked against those before it. Two that touch the same block, one of them to write it, with
// nothing between them that orders them (an event, or a wait of the host), are a fault; so is memory that is let go
// of while another stream than its own may still use it.
//
// As a vector clock: of each stream, how far it has come and what it knows of others (Lamport 1978, Mattern 1989).
// What one thread of the host has waited for, all are taken to know.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

namespace headrace::stream_order {

using StreamKey = std::pair<c10::DeviceIndex, c10::StreamId>;
using Clock = std::map<StreamKey, std::int64_t>;

struct Accesses {
  StreamKey made_on;
  Clock reads, writes;             // the last of each stream
  std::set<StreamKey> kept_for{};  // streams that the allocator was told of
};

// A thread's current stream of a device.
c10::StreamId current(c10::DeviceIndex device);
c10::StreamId exchange(c10::DeviceIndex device, c10::StreamId stream);
c10::StreamId next_of_pool();

// By this thread's current stream of the block's device.
void read(Accesses& block, const std::string& what);
void write(Accesses& block, const std::string& what);
void let_go(const Accesses& block);

Clock record(StreamKey stream);
void come_after(StreamKey stream, const Clock& event);
void host_waited_for(const Clock& event);
bool host_has_waited_for(const Clock& event);

// What was wrong since it was last asked.
std::vector<std::string> faults();

}  // namespace headrace::stream_order
