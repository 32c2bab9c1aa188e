// The configuration of a run that is over in a moment, on a token file of its own.
#pragma once

#include <cstdint>
#include <vector>

#include "headrace/data/token_file.h"
#include "headrace/train/config/config.h"
#include "tests/data/folder.h"

namespace headrace {

inline std::filesystem::path write_tokens(const Folder& folder, std::size_t tokens) {
  std::vector<std::int32_t> ids(tokens);
  std::uint32_t state = 7;
  for (std::int32_t& id : ids)
    id = static_cast<std::int32_t>((state = state * 1664525U + 1013904223U) >> 27U);
  const std::filesystem::path path = folder / "a.tokens";
  write_token_file(path, ids, 32);
  return path;
}

inline Config tiny_config(const Folder& folder) {
  Config config;
  config.model.transformer = TransformerConfig{
      .layers = 2, .width = 16, .heads = 2, .context = 8, .vocabulary = 32, .dropout = 0.1};
  config.data.tokens = (folder / "a.tokens").string();
  config.data.validation = 0.2;
  config.train.steps = 6;
  config.train.batch = 4;
  config.train.microbatch = 1;
  config.train.microbatches = 4;
  config.optimizer.learning_rate = 1e-2;
  config.evaluate.sequences = 3;
  config.pipeline.ranks = 1;
  config.pipeline.stages_per_rank = 1;
  config.pipeline.threads = 1;
  return config;
}

}  // namespace headrace
