// The transports that the suite runs over: a new one is one more line in backends().
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/transport/c10d/c10d.h"
#include "headrace/transport/local.h"
#include "headrace/transport/rendezvous/rendezvous.h"
#include "headrace/transport/transport.h"

namespace headrace {

struct Backend {
  std::string name;
  // Runs `work` on every rank, a thread each; throws the first failure.
  std::function<void(int ranks, const std::function<void(Transport&)>& work)> run;
};

inline std::ostream& operator<<(std::ostream& out, const Backend& backend) {
  return out << backend.name;
}

// Ranks that meet at a store and talk over Gloo, though they are threads of one process here.
inline void run_c10d(int ranks,
                     bool share_memory,
                     const std::function<void(Transport&)>& work,
                     const std::function<torch::Device(int rank)>& device = {},
                     const DirectPair& direct = {}) {
  const Listening listening = listen_on_free_port();
  run_ranks(
      ranks,
      [&](int rank) {
        Rendezvous place;
        place.rank = place.local_rank = rank;
        place.size = place.local_size = ranks;
        place.port = listening.port;
        place.share_memory = share_memory;
        if (rank == 0) place.listen_fd = listening.fd;
        return c10d_transport(
            place, 30,
            {.device = device ? device(rank) : torch::Device(torch::kCPU), .direct = direct});
      },
      work);
}

inline std::vector<Backend> backends() {
  return {
      {"local",
       [](int ranks, const std::function<void(Transport&)>& work) { run_ranks(ranks, work); }},
      {"local_delayed",
       [](int ranks, const std::function<void(Transport&)>& work) {
         run_ranks(ranks, work, {.delay = 0.01});
       }},
      {"c10d", [](int ranks,
                  const std::function<void(Transport&)>& work) { run_c10d(ranks, false, work); }},
      {"c10d_shared_memory",
       [](int ranks, const std::function<void(Transport&)>& work) { run_c10d(ranks, true, work); }},
  };
}

class OverBackends : public testing::TestWithParam<Backend> {
 protected:
  void run(int ranks, const std::function<void(Transport&)>& work) { GetParam().run(ranks, work); }
};

inline std::string backend_name(const testing::TestParamInfo<Backend>& info) {
  return info.param.name;
}

inline Label label(int microbatch, Purpose purpose = Purpose::Activations) {
  return {purpose, 7, 1, microbatch};
}

// The text of the first failure of a run that is expected to fail with an E.
template <class E = Error>
E failure_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const E& error) {
    return error;
  }
  throw std::logic_error("the run did not fail");
}

}  // namespace headrace
