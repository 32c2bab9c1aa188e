// GPT-2's architecture (Radford et al., Language Models are Unsupervised Multitask Learners, 2019)
// as a list of layers: "embedding", then "blocks.0.attention", "blocks.0.mlp", … and "head".
// model/gpt.h builds them.
//
// Dropout applies to the embedding's output and to each half's branch before the residual addition.
#pragma once

#include <vector>

#include "headrace/plan/layers.h"

namespace headrace {

struct GptConfig {
  int layers = 6;
  int width = 192;
  int heads = 6;
  int context = 128;
  int vocabulary = 256;
  bool tied = true;  // the head's matrix is the embedding's
  double dropout = 0;

  bool operator==(const GptConfig&) const = default;
};

// Throws UsageError, whose text begins with the field's name, where the sizes do not fit (width not
// a multiple of heads, …).
std::vector<LayerInfo> gpt_layers(const GptConfig& config);

}  // namespace headrace
