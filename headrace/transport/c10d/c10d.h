// Ranks that are processes, on one host or many: TCPStore and ProcessGroupGloo of libtorch, on CUDA
// ProcessGroupNCCL.
//
//   const std::optional<Rendezvous> place = rendezvous_from_environment();
//   const auto transport = c10d_transport(*place, 60);
//   transport->set_limit(600);
//
// Its destructor ends the rank: what was sent still leaves, and rank 0, which serves the run's
// store, waits for the others to end; each at most for the limit of a wait, or for 2 s where the
// run has failed. A process that leaves SIGPIPE at its default ignores it from then on, so that the
// end of a peer is an error and not a signal. GLOO_SOCKET_IFNAME chooses the network, as it does
// for PyTorch.
#pragma once

#include <memory>

#include "headrace/transport/c10d/operations.h"
#include "headrace/transport/rendezvous/rendezvous.h"
#include "headrace/transport/transport.h"

namespace headrace {

// Meets the other ranks, within `start_limit` seconds; throws an Error that says who or what is
// missing. Tensors that were on a device at the sender arrive on this rank's own, unless the ranks' use of devices is not
// alike: then on the CPU (Transport::device()).
std::unique_ptr<Transport> c10d_transport(const Rendezvous& place,
                                          double start_limit,
                                          const DeviceUse& use = {});

}  // namespace headrace
