// The functions that the table of generators (table.cc) is made of; each is in the file of its
// schedule. They want options as Generator says.
#pragma once

#include "headrace/schedule/generators/generators.h"

namespace headrace {

Schedule eager_1f1b(const GeneratorOptions& options);
Schedule interleaved(const GeneratorOptions& options);
Schedule breadth_first(const GeneratorOptions& options);
Schedule zb_h1(const GeneratorOptions& options);
Schedule zb_h2(const GeneratorOptions& options);
Made zb_auto(const GeneratorOptions& options);
Made zb_v(const GeneratorOptions& options);
Schedule v_half(const GeneratorOptions& options);
Schedule v_min(const GeneratorOptions& options);
Made v_adaptive(const GeneratorOptions& options);
Schedule one_f_one_b_v(const GeneratorOptions& options);
Schedule grouped_interleaved(const GeneratorOptions& options);
Schedule dualpipe(const GeneratorOptions& options);
Schedule dualpipe_v(const GeneratorOptions& options);
Schedule chimera(const GeneratorOptions& options);
Schedule seq1f1b(const GeneratorOptions& options);
Schedule pipedream(const GeneratorOptions& options);
Schedule pipedream_2bw(const GeneratorOptions& options);

Placement chimera_placement(const GeneratorOptions& options);

Refusal interleaved_rule(const GeneratorOptions& options);
Refusal gis_rule(const GeneratorOptions& options);
Refusal dualpipe_placement_rule(const GeneratorOptions& options);
Refusal dualpipe_rule(const GeneratorOptions& options);
Refusal dualpipe_v_rule(const GeneratorOptions& options);
Refusal chimera_placement_rule(const GeneratorOptions& options);
Refusal seq1f1b_rule(const GeneratorOptions& options);
Refusal pipedream_2bw_rule(const GeneratorOptions& options);

}  // namespace headrace
