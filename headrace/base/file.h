// Whole files, read and written. Both throw Error that names the path and the system's reason.
#pragma once

#include <string>
#include <string_view>

namespace headrace {

std::string read_file(const std::string& path);

// Written beside and renamed, so that a reader sees the old text or the new, never half.
void write_file(const std::string& path, std::string_view text);

}  // namespace headrace
