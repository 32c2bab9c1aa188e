// Any bytes as a safetensors file. What is accepted covers the data exactly, in the sizes of the
// shapes.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/checkpoint/safetensors.h"
#include "tests/fuzz/text.h"

namespace headrace {
namespace {

void read(std::span<const std::byte> file) {
  SafetensorsHeader header;
  try {
    header = parse_safetensors(file, "fuzz");
  } catch (const Error& error) {
    require(std::strlen(error.what()) < 2000);  // however long the names
    return;
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  const std::byte* at = file.data() + sizeof length + length;
  for (const TensorView& tensor : header.tensors) {
    require(tensor.bytes.data() == at);
    at += tensor.bytes.size();
    std::uint64_t count = 1;
    for (const std::uint64_t n : tensor.shape) count *= n;
    require(count * bytes_of(tensor.dtype) == tensor.bytes.size());
    if (count > 0 && tensor.dtype != Dtype::F8E5M2 && tensor.dtype != Dtype::F8E4M3)
      value_at(tensor.dtype, tensor.bytes, count - 1);
  }
  require(at == file.data() + file.size());
}

}  // namespace
}  // namespace headrace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // As it stands, and as a header of the right length with data behind, which chance seldom finds.
  headrace::read(std::as_bytes(std::span(data, size)));
  const std::size_t tail = size > 0 ? data[0] % 16 : 0;
  if (size < tail + 1) return 0;
  const std::uint64_t length = size - tail - 1;
  std::vector<std::uint8_t> file(sizeof length);
  std::memcpy(file.data(), &length, sizeof length);
  file.insert(file.end(), data + 1, data + size);
  headrace::read(std::as_bytes(std::span(file)));
  return 0;
}
