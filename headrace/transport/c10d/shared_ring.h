// Small messages between processes of one host go through memory that both have mapped: a copy,
// where a socket costs both sides system calls and the waking of threads.
//
//   SharedRings boxes(rank, size);         // memory of this rank's: a ring for each peer and channel
//   boxes.attach(peer, peers_address);   // and the rings that a peer keeps for this rank
//   boxes.to(peer, channel).try_put(bytes);
//   boxes.from(peer, channel).take(10ms);
//
// A rank that is not on this host, in this namespace of processes or of this user is not attached,
// and its messages take another way. Nothing is left behind when a process is killed.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>

namespace headrace {

// One direction between two ranks on one channel: a ring of bytes, written by one thread at a time
// and read by one. Throws nothing.
class Ring {
 public:
  struct Shared;
  explicit Ring(Shared* shared) : shared_(shared) {}

  static std::size_t bytes();  // of memory, pages of it that are never touched cost nothing
  static void initialise(void* memory);

  // A tensor of bytes. False where there is no room until the reader has taken some.
  bool try_put(const torch::Tensor& message);
  // The oldest message as a tensor of bytes; undefined where none came within `limit`.
  torch::Tensor take(std::chrono::milliseconds limit);

 private:
  Shared* shared_;
};

class SharedRings {
 public:
  SharedRings(int rank, int size);
  SharedRings(const SharedRings&) = delete;
  SharedRings& operator=(const SharedRings&) = delete;
  ~SharedRings();

  // By which another process finds the memory; empty where this machine gives none.
  std::string address() const;
  // Whether `to(peer, …)` can be written from now on.
  bool attach(int peer, const std::string& address);

  Ring from(int peer, std::size_t channel);
  Ring to(int peer, std::size_t channel);  // of an attached peer

 private:
  const int rank_;
  const int size_;
  const std::uint64_t token_;  // tells the memory from another that has taken its place
  int memory_ = -1;            // a descriptor
  char* own_ = nullptr;
  std::vector<char*> theirs_;  // by peer: the rings kept for this rank; null: not attached
};

// A message larger than this takes another way.
constexpr std::int64_t kRingPart = std::int64_t{1} << 19U;

}  // namespace headrace
