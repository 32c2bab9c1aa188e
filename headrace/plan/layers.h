// What a plan knows of a model: a list of layers, each with its parameters, and what it costs and
// holds by an estimate or a measurement. How a layer is built is another matter (model/layer.h).
//
//   std::vector<LayerInfo> layers = transformer_layers(config);
//   layers[3].cost.weight();
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headrace/plan/operations.h"

namespace headrace {

// Of one sequence, forward only.
struct LayerCost {
  double flops = 0;           // of matrix products; a backward costs twice this
  double moved_bytes = 0;     // read and written by all that is no matrix product
  double boundary_bytes = 0;  // of the output

  // What a stage is balanced by: matrix products and memory traffic in one unit, at the 10
  // operations a byte that a CPU core and a GPU alike take within a factor of two.
  double weight() const { return flops + 10 * moved_bytes; }
};

// Numbers that one sequence makes a layer hold.
struct LayerMemory {
  double floats = 0;          // from forward to backward in fp32, the input among them
  double products = 0;        // and in the type of matrix products
  double working = 0;         // besides, at most, while its forward or backward runs
  double copies = 0;          // and where the type of the products is not fp32
  bool is_attention = false;  // Recompute::Attention leaves only the input
  // Of a head: what its logits are of, which are held in fp32 where they may be whole (logits.h).
  std::int64_t logit_tokens = 0, vocabulary = 0;
};

// What a layer is in a transformer: its ends, or a half of a block, whose operations' result is added to what they read.
enum class LayerKind { Other, Embedding, Half, Head };

struct LayerInfo {
  std::string name;
  int block = -1;  // the transformer block it is part of; -1: embedding or head
  std::vector<ParameterSpec> parameters;
  LayerCost cost;
  LayerMemory memory;
  LayerKind kind = LayerKind::Other;
  std::vector<Operation> operations;
};

// Of the whole model; a shared parameter counts once.
std::int64_t parameter_count(const std::vector<LayerInfo>& layers);

}  // namespace headrace
