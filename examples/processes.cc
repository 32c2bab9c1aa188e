// The library without the command line, a process a rank: started by any launcher that sets RANK,
// WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as
//
//   torchrun --no-python --nproc-per-node 2 processes
//   mpirun -n 2 processes
//
// A small GPT learns to repeat a fixed sequence; rank 0 prints the loss.
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <optional>

#include <torch/torch.h>

#include "headrace/model/transformer.h"
#include "headrace/runtime/pipeline.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/train/optimizer.h"
#include "headrace/transport/c10d/c10d.h"
#include "headrace/transport/rendezvous/rendezvous.h"

namespace {

using namespace headrace;  // NOLINT(google-build-using-namespace)

void train(Transport& transport) {
  constexpr int kMicrobatches = 4, kRows = 2, kContext = 16, kSteps = 30;
  const TransformerConfig config{.layers = 4,
                                 .width = 32,
                                 .heads = 4,
                                 .context = kContext,
                                 .vocabulary = 17,
                                 .tied = false,
                                 .dropout = 0};
  const Plan plan =
      make_plan(transformer_layers(config), {.schedule = "1f1b", .ranks = transport.size()});
  Pipeline pipeline(transformer(config), plan, transport, {.seed = 1});
  Optimizer optimizer(OptimizerConfig(), pipeline.to_update().values);
  const torch::Tensor sequence = torch::arange(kContext + 1).remainder(17);
  const torch::Tensor inputs = sequence.slice(0, 0, kContext).expand({kRows, kContext});
  const torch::Tensor targets = sequence.slice(0, 1).expand({kRows, kContext});
  for (int step = 0; step < kSteps; ++step) {
    const StepResult result =
        pipeline.train({.step = step,
                        .microbatches = kMicrobatches,
                        .inputs = [&](int) { return inputs; },
                        .targets = [&](int) { return targets; }},
                       {.normaliser = 1.0 / (kMicrobatches * kRows * kContext), .clip = 1});
    const ToUpdate update = pipeline.to_update();
    optimizer.step(1e-2, update.values, update.gradients);
    if (transport.rank() == 0 && step % 5 == 4)
      std::printf("step %d  loss %.4f\n", step + 1, result.loss);
  }
}

}  // namespace

int main() {
  std::unique_ptr<Transport> transport;
  try {
    const std::optional<Rendezvous> place = rendezvous_from_environment();
    check(place.has_value(), "no launcher: set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT");
    torch::set_num_threads(1);
    transport = c10d_transport(*place, 60);
    transport->set_limit(60);
    train(*transport);
    return 0;
  } catch (const std::exception& error) {
    const auto* peer = dynamic_cast<const PeerError*>(&error);
    // One rank tells, and the others end.
    if (!transport ||
        transport->fail(peer ? peer->peer : transport->rank(), text_of(error)).reported_here)
      std::cerr << "error: " << text_of(error) << "\n";
    return 1;
  }
}
