// The words of a run: what is printed before its first step and after its last.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headrace/plan/plan.h"
#include "headrace/train/config/config.h"
#include "headrace/train/samples.h"
#include "headrace/train/stage_times.h"

namespace headrace {

// "#" lines: devices (devices.h), sizes as resolved, data, model (parameters, operations a token), then the layer →
// stage table.
std::string opening_text(const Config& config,
                         const Plan& plan,
                         const Samples& samples,
                         const std::string& devices);

// For each stage: layers, parameters, seconds by what they went to, bubble share, peak memory as
// measured and as predicted.
std::string closing_table(const Config& config,
                          const Plan& plan,
                          const std::vector<StageSeconds>& times);

// Floating-point operations of matrix products for one token, forward and backward, of the whole
// model.
double flops_per_token(const Plan& plan, int context);

}  // namespace headrace
