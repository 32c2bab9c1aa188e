// What libFuzzer gives, as text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace headrace {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Aborts, so that libFuzzer keeps the input.
inline void require(bool ok) {
  if (!ok) __builtin_trap();
}

}  // namespace headrace
