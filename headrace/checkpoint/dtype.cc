#include "headrace/checkpoint/dtype.h"

#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

namespace headrace {
namespace {

struct Row {
  std::string_view name;
  std::size_t bytes;
};

// In the order of the enumeration.
constexpr std::array<Row, 15> kRows = {{{"BOOL", 1},
                                        {"U8", 1},
                                        {"I8", 1},
                                        {"F8_E5M2", 1},
                                        {"F8_E4M3", 1},
                                        {"I16", 2},
                                        {"U16", 2},
                                        {"F16", 2},
                                        {"BF16", 2},
                                        {"I32", 4},
                                        {"U32", 4},
                                        {"F32", 4},
                                        {"I64", 8},
                                        {"U64", 8},
                                        {"F64", 8}}};

const Row& row(Dtype dtype) {
  return kRows[static_cast<std::size_t>(dtype)];
}

template <class Number>
Number number_at(std::span<const std::byte> bytes, std::size_t index) {
  Number number;
  std::memcpy(&number, bytes.data() + index * sizeof(Number), sizeof(Number));
  return number;
}

double half(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const double fraction = bits & 1023;
  const double size = exponent == 31  ? (fraction == 0 ? std::numeric_limits<double>::infinity()
                                                       : std::numeric_limits<double>::quiet_NaN())
                      : exponent == 0 ? std::ldexp(fraction, -24)
                                      : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -size : size;
}

}  // namespace

std::string_view to_string(Dtype dtype) {
  return row(dtype).name;
}

std::optional<Dtype> parse_dtype(std::string_view text) {
  for (std::size_t i = 0; i < kRows.size(); ++i)
    if (kRows[i].name == text) return static_cast<Dtype>(i);
  return std::nullopt;
}

std::size_t bytes_of(Dtype dtype) {
  return row(dtype).bytes;
}

double value_at(Dtype dtype, std::span<const std::byte> bytes, std::size_t index) {
  switch (dtype) {
    case Dtype::Bool:
    case Dtype::U8:
      return number_at<std::uint8_t>(bytes, index);
    case Dtype::I8:
      return number_at<std::int8_t>(bytes, index);
    case Dtype::I16:
      return number_at<std::int16_t>(bytes, index);
    case Dtype::U16:
      return number_at<std::uint16_t>(bytes, index);
    case Dtype::F16:
      return half(number_at<std::uint16_t>(bytes, index));
    case Dtype::BF16:
      return std::bit_cast<float>(std::uint32_t{number_at<std::uint16_t>(bytes, index)} << 16);
    case Dtype::I32:
      return number_at<std::int32_t>(bytes, index);
    case Dtype::U32:
      return number_at<std::uint32_t>(bytes, index);
    case Dtype::F32:
      return number_at<float>(bytes, index);
    case Dtype::I64:
      return static_cast<double>(number_at<std::int64_t>(bytes, index));
    case Dtype::U64:
      return static_cast<double>(number_at<std::uint64_t>(bytes, index));
    case Dtype::F64:
      return number_at<double>(bytes, index);
    case Dtype::F8E5M2:
    case Dtype::F8E4M3:
      break;
  }
  assert(false && "no number of this type is asked for");
  return 0;
}

}  // namespace headrace
