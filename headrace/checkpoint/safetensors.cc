#include "headrace/checkpoint/safetensors.h"

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"

namespace headrace {
namespace {

constexpr std::size_t kAlignment = 64;

std::uint64_t size_of(const TensorInfo& info) {
  std::uint64_t size = bytes_of(info.dtype);
  for (const std::uint64_t n : info.shape) size *= n;
  return size;
}

}  // namespace

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (const std::uint64_t n : shape) text += cat(text.size() > 1 ? ", " : "", n);
  return text + "]";
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : map_(std::make_unique<MappedFile>(path)),
      header_(parse_safetensors(map_->bytes(), path.string())) {
  for (std::size_t i = 0; i < header_.tensors.size(); ++i)
    places_.emplace(header_.tensors[i].name, i);
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? nullptr : &header_.tensors[found->second];
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     const std::vector<TensorInfo>& tensors)
    : file_(path) {
  // transformers asks for this word.
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  for (const TensorInfo& tensor : tensors) {
    const std::uint64_t end = left_ + size_of(tensor);
    header[tensor.name] = {{"dtype", to_string(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {left_, end}}};
    left_ = end;
  }
  std::string text = header.dump();
  const std::uint64_t before = sizeof(std::uint64_t) + text.size();
  text.append((kAlignment - before % kAlignment) % kAlignment, ' ');
  const std::uint64_t length = text.size();
  file_.append(std::as_bytes(std::span(&length, 1)));
  file_.append(text);
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  assert(bytes.size() <= left_);
  file_.append(bytes);
  left_ -= bytes.size();
}

FileRecord SafetensorsWriter::finish() {
  assert(left_ == 0);
  return file_.finish();
}

}  // namespace headrace
