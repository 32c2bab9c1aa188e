// The shortest configuration that resolves.
#pragma once

namespace headrace {

constexpr const char* kSmall = R"([data]
text = ["a.txt"]
[train]
steps = 3
batch = 8
microbatch = 2
)";

}  // namespace headrace
