// Every rank gives a list of numbers, every rank gets all lists: through rank 0, over the
// transport's own messages, so that limits and failures are those of any other wait. Bits are kept.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headrace/transport/transport.h"

namespace headrace {

// result[rank] is what that rank gave. Lists may differ in length.
std::vector<std::vector<double>> all_gather(Transport& transport,
                                            const std::vector<double>& mine,
                                            std::int64_t step);

// The same for texts.
std::vector<std::string> all_gather_text(Transport& transport,
                                         const std::string& mine,
                                         std::int64_t step);

}  // namespace headrace
