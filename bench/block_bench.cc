// Forward and backward of one block of a family, timed on one core: what bench/blocks.py sets beside PyTorch.
//
//   block_bench llama      prints {"seconds": …}, the median of many
#include <algorithm>
#include <chrono>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "headrace/base/error.h"
#include "headrace/model/transformer.h"
#include "headrace/tensor/exception_text.h"

namespace headrace {
namespace {

// The benchmark's size (gpt_bench.cc: large).
constexpr int kRows = 4, kContext = 256, kWidth = 384, kTimes = 40, kWarm = 5;

double median_of_block(Family family) {
  TransformerConfig config{.layers = 1,
                           .width = kWidth,
                           .heads = 6,
                           .context = kContext,
                           .vocabulary = 64,
                           .family = family};
  if (family != Family::Gpt) config.kv_heads = 2;
  const std::vector<LayerSpec> model = transformer(config);
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<StageContext> stages;
  for (const LayerSpec& spec : {model[1], model[2]}) {
    layers.push_back(spec.build());
    stages.push_back({.weights = initial_weights(spec.parameters, {.seed = 1}), .version = 0});
  }
  const torch::Tensor x = torch::randn({kRows, kContext, kWidth}).requires_grad_(true);
  const torch::Tensor gradient = torch::randn_like(x);
  std::vector<double> seconds;
  for (int i = 0; i < kWarm + kTimes; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    Tensors y = {x};
    for (std::size_t l = 0; l < layers.size(); ++l) y = layers[l]->forward(y, {}, stages[l]);
    y[0].backward(gradient);
    if (i >= kWarm)
      seconds.push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::ranges::sort(seconds);
  return seconds[seconds.size() / 2];
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
  try {
    const auto family = headrace::family_of(argc > 1 ? argv[1] : "gpt");
    headrace::check_usage(family.has_value(), "block_bench takes the name of a family");
    torch::set_num_threads(1);
    std::cout << "{\"seconds\": " << headrace::median_of_block(*family) << "}\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << headrace::text_of(error) << "\n";
    return 1;
  }
}
