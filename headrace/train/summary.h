// The words of a run: what is printed before its first step and after its last.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headrace/runtime/layout.h"
#include "headrace/train/config/config.h"
#include "headrace/train/samples.h"
#include "headrace/train/stage_times.h"

namespace headrace {

// Bytes that each rank's tensors take at their most, by runtime/predict_memory.
std::vector<double> predicted_memory(const Config& config, const Layout& layout);

// "#" lines: sizes as resolved, data, model (parameters, operations a token), then the layer →
// stage table.
std::string opening_text(const Config& config, const Layout& layout, const Samples& samples);

// For each stage: layers, parameters, seconds by what they went to, bubble share, peak memory as
// measured and as predicted.
std::string closing_table(const Config& config,
                          const Layout& layout,
                          const std::vector<StageSeconds>& times);

// Floating-point operations of matrix products for one token, forward and backward, of the whole
// model.
double flops_per_token(const Layout& layout, int context);

}  // namespace headrace
