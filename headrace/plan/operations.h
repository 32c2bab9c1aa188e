// What a layer of a transformer does with its rows, as a list of operations: what each is called, holds, costs and
// keeps. How it is computed is another matter (model/ops/, a file each).
//
// Rows are [sequences · tokens, numbers]; each operation turns rows into rows.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace headrace {

struct ParameterSpec {
  std::string name;
  std::vector<std::int64_t> shape;
  double mean = 0;       // of the normal distribution it starts from
  double deviation = 0;  // 0: starts as the constant `mean`

  std::int64_t elements() const;
};

// Layer norm (Ba et al., 2016), or by the root of the mean square alone (Zhang and Sennrich, 2019), which has no bias.
struct NormOp {
  std::string name;
  std::int64_t width = 0;
  bool is_rms = false;
  double epsilon = 1e-5;
};

// x · Wᵀ + b; several matrices that read the same rows stand side by side in the result.
struct LinearOp {
  struct Part {
    std::string name;
    std::int64_t out = 0;
  };
  std::int64_t in = 0;
  std::vector<Part> parts;
  bool has_bias = true;
  double deviation = 0.02;  // of the matrices' initial values

  std::int64_t out() const;
};

// The RMS norm of each of some heads of a projection, over the head alone (as in Qwen 3).
struct HeadNormOp {
  std::string name;
  std::int64_t first_head = 0, heads = 0, head_width = 0;
  double epsilon = 1e-6;
};

// Rotary positions (Su et al., RoFormer, 2021): pairs (i, i + head_width / 2) of the first heads are turned by
// position · theta^(−2i / head_width).
struct RotaryOp {
  enum class Scaling { None, Linear, Llama3 };
  std::int64_t heads = 0;  // of the rows' first: queries and keys
  std::int64_t head_width = 0;
  double theta = 10000;
  // Of frequencies, to go beyond the context that a model was trained with: all divided by `factor`, or those that turn
  // less than `low` times in `original` tokens, those that turn more than `high` not at all, and between the two by
  // interpolation (Llama 3.1).
  Scaling scaling = Scaling::None;
  double factor = 1, low = 1, high = 4;
  std::int64_t original = 0;

  // Radians a position, of each pair.
  std::vector<double> frequencies() const;
};

// Causal attention of queries | keys | values, heads side by side in each; several heads of queries may share one of
// keys and values (Ainslie et al., GQA, 2023).
struct AttentionOp {
  std::int64_t heads = 0, kv_heads = 0, head_width = 0;

  std::int64_t in() const { return (heads + 2 * kv_heads) * head_width; }
  std::int64_t out() const { return heads * head_width; }
};

enum class Activation { GeluTanh, Gelu, Relu, Silu };

struct ActivationOp {
  Activation kind = Activation::GeluTanh;
  std::int64_t width = 0;
};

// activation(first half) · second half (Shazeer, GLU Variants Improve Transformer, 2020).
struct GatedOp {
  Activation kind = Activation::Silu;
  std::int64_t width = 0;  // of the result
};

struct DropoutOp {
  double share = 0;
  std::int64_t width = 0;
};

using Operation = std::
    variant<NormOp, LinearOp, HeadNormOp, RotaryOp, AttentionOp, ActivationOp, GatedOp, DropoutOp>;

// In the order in which the operation reads them; their names begin with the layer's.
std::vector<ParameterSpec> parameters_of(const Operation& operation, const std::string& layer);

// Of one sequence of so many tokens.
struct OperationCost {
  double flops = 0;     // of matrix products, forward
  double moved = 0;     // numbers read and written besides, forward
  double floats = 0;    // kept for the backward in fp32
  double products = 0;  // and in the type of matrix products
  double working = 0;   // besides, while it runs
};
OperationCost cost_of(const Operation& operation, double tokens);

}  // namespace headrace
