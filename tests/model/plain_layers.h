// A model's layers run one after the other, without stages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "headrace/model/transformer.h"

namespace headrace {

struct PlainLayers {
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<Tensors> weights;
  std::map<std::string, torch::Tensor> by_name;

  PlainLayers(const TransformerConfig& config, std::uint64_t seed) {
    for (const LayerSpec& spec : transformer(config)) {
      layers.push_back(spec.build());
      weights.push_back(initial_weights(spec.parameters, {.seed = seed}));
      for (std::size_t i = 0; i < spec.parameters.size(); ++i)
        by_name.emplace(spec.parameters[i].name, weights.back()[i]);
    }
  }

  // What the last layer gives; `stage` is for all layers, but for the weights.
  Tensors run(const torch::Tensor& ids, const Context& context, StageContext stage = {}) const {
    Tensors values = {ids};
    for (std::size_t i = 0; i < layers.size(); ++i) {
      stage.weights = weights[i];
      values = layers[i]->forward(values, context, stage);
    }
    return values;
  }
};

}  // namespace headrace
