#include "headrace/plan/operations.h"

#include <cmath>
#include <cstddef>
#include <numbers>
#include <string>
#include <variant>
#include <vector>

namespace headrace {
namespace {

template <class... F>
struct Each : F... {
  using F::operator()...;
};

double number(std::int64_t value) {
  return static_cast<double>(value);
}

}  // namespace

std::int64_t ParameterSpec::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

std::int64_t LinearOp::out() const {
  std::int64_t all = 0;
  for (const Part& part : parts) all += part.out;
  return all;
}

std::vector<double> RotaryOp::frequencies() const {
  std::vector<double> all;
  for (std::int64_t i = 0; i < head_width / 2; ++i) {
    // As transformers rounds it, whose weights are trained with it.
    const auto power = static_cast<float>(2 * i) / static_cast<float>(head_width);
    double frequency = 1.0F / std::pow(static_cast<float>(theta), power);
    if (scaling == Scaling::Linear) frequency /= factor;
    if (scaling == Scaling::Llama3) {
      const double turns = number(original) * frequency / (2 * std::numbers::pi);
      const double smooth = (turns - low) / (high - low);
      if (turns < low)
        frequency /= factor;
      else if (turns <= high)
        frequency = (1 - smooth) * frequency / factor + smooth * frequency;
    }
    all.push_back(frequency);
  }
  return all;
}

std::vector<ParameterSpec> parameters_of(const Operation& operation, const std::string& layer) {
  using List = std::vector<ParameterSpec>;
  return std::visit(
      Each{[&](const NormOp& norm) {
             List all = {{layer + "." + norm.name + ".weight", {norm.width}, 1, 0}};
             if (!norm.is_rms)
               all.push_back({layer + "." + norm.name + ".bias", {norm.width}, 0, 0});
             return all;
           },
           [&](const LinearOp& linear) {
             List all;
             for (const LinearOp::Part& part : linear.parts) {
               const std::string name = layer + "." + part.name;
               all.push_back({name + ".weight", {part.out, linear.in}, 0, linear.deviation});
               if (linear.has_bias) all.push_back({name + ".bias", {part.out}, 0, 0});
             }
             return all;
           },
           [&](const HeadNormOp& norm) {
             return List{{layer + "." + norm.name + ".weight", {norm.head_width}, 1, 0}};
           },
           [](const auto&) { return List(); }},
      operation);
}

OperationCost cost_of(const Operation& operation, double tokens) {
  return std::visit(
      Each{[&](const NormOp& norm) {
             const double numbers = tokens * number(norm.width);
             return OperationCost{.moved = 2 * numbers,
                                  .floats = numbers + tokens * (norm.is_rms ? 1 : 2)};
           },
           [&](const LinearOp& linear) {
             return OperationCost{.flops = 2 * tokens * number(linear.in) * number(linear.out()),
                                  .products = tokens * number(linear.in)};
           },
           [&](const HeadNormOp& norm) {
             const double numbers = tokens * number(norm.heads * norm.head_width);
             return OperationCost{.moved = 3 * numbers,
                                  .floats = tokens * number(norm.heads),
                                  .products = numbers,
                                  .working = 2 * numbers};
           },
           [&](const RotaryOp& rotary) {
             const double numbers = tokens * number(rotary.heads * rotary.head_width);
             return OperationCost{.moved = 4 * numbers, .working = numbers};
           },
           [&](const AttentionOp& attention) {
             // The causal mask leaves half of the two score products. Shared keys and values are there a time for each
             // head that reads them while it runs.
             const double in = tokens * number(attention.in()),
                          out = tokens * number(attention.out());
             const double repeated = attention.kv_heads == attention.heads ? 0 : 2 * out;
             return OperationCost{.flops = 2 * tokens * out,
                                  .moved = 2 * (in + out) + repeated,
                                  .floats = tokens * number(attention.heads),
                                  .products = in,
                                  .working = 2 * (in + out) + 2 * repeated};
           },
           [&](const ActivationOp& activation) {
             const double numbers = tokens * number(activation.width);
             return OperationCost{
                 .moved = 2 * numbers, .products = numbers, .working = 2 * numbers};
           },
           [&](const GatedOp& gated) {
             const double numbers = tokens * number(gated.width);
             return OperationCost{
                 .moved = 3 * numbers, .products = 2 * numbers, .working = 4 * numbers};
           },
           [&](const DropoutOp& dropout) {
             return OperationCost{.floats = tokens * number(dropout.width)};
           }},
      operation);
}

}  // namespace headrace
