// Decoder transformers as a list of layers: "embedding", then "blocks.0.attention", "blocks.0.mlp", … and "head", each a
// list of operations. model/transformer.h builds them.
//
//   gpt              GPT-2 (Radford et al., 2019): layer norm, learned positions, biases
//   llama, mistral   (Touvron et al., 2023; Jiang et al., 2023): RMS norm, rotary positions, a gated MLP, no biases
//   qwen2            llama with biases of queries, keys and values
//   qwen3            llama with an RMS norm of each head of queries and keys
//
// Dropout applies to the embedding's output and to each half's branch before the residual addition.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headrace/plan/layers.h"

namespace headrace {

enum class Family { Gpt, Llama, Mistral, Qwen2, Qwen3 };

// Of what a family leaves open, 0 or "" is the family's own.
struct TransformerConfig {
  int layers = 6;
  int width = 192;
  int heads = 6;
  int context = 128;
  int vocabulary = 256;
  bool tied = true;  // the head's matrix is the embedding's
  double dropout = 0;
  Family family = Family::Gpt;

  int kv_heads = 0;    // of keys and values, each shared by heads / kv_heads; 0: heads
  int head_width = 0;  // 0: width / heads
  std::int64_t inner =
      0;  // of the MLP; 0: 4 · width, of a gated one 8/3 of it, to the next multiple of 32
  double norm_epsilon = 0;
  std::string activation;                         // "gelu_tanh", "gelu", "relu" or "silu"
  bool attention_bias = false, mlp_bias = false;  // where the family has none but may
  double rope_theta = 0;
  std::string rope_scaling;  // "linear" or "llama3"; the next are its numbers (operations.h)
  double rope_factor = 0, rope_low = 0, rope_high = 0;
  int rope_original = 0;
  int window =
      0;  // tokens that each sees at most, itself among them; 0: all. Not done here: no shorter than the context

  bool operator==(const TransformerConfig&) const = default;
};

// "gpt", "llama", …
const std::vector<std::string>& family_names();
std::string name_of(Family family);
std::optional<Family> family_of(const std::string& name);

// With what the family leaves open filled in.
TransformerConfig filled(const TransformerConfig& config);

// What is wrong with it, each fault beginning with a field's name: sizes that do not fit (width not a multiple of heads,
// …), and settings that the family does not have.
std::vector<std::string> faults_of(const TransformerConfig& config);

// Throws UsageError where there are faults.
std::vector<LayerInfo> transformer_layers(const TransformerConfig& given);

}  // namespace headrace
