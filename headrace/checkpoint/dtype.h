// The types of numbers that a safetensors file may hold, and their values as doubles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace headrace {

enum class Dtype : std::uint8_t {
  Bool,
  U8,
  I8,
  F8E5M2,
  F8E4M3,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  I64,
  U64,
  F64
};

std::string_view to_string(Dtype dtype);  // as the file has it: "BF16"
std::optional<Dtype> parse_dtype(std::string_view text);
std::size_t bytes_of(Dtype dtype);

// The number at `index` of an array of fp32, fp64, bf16 or fp16, or of integers; a large integer is
// rounded. Not for F8.
double value_at(Dtype dtype, std::span<const std::byte> bytes, std::size_t index);

}  // namespace headrace
