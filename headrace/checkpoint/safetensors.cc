#include "headrace/checkpoint/safetensors.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
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
    : infos_(tensors), file_(path) {
  std::uint64_t start = 0;
  // transformers asks for this word.
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  for (const TensorInfo& tensor : tensors) {
    const std::uint64_t end = start + size_of(tensor);
    header[tensor.name] = {{"dtype", to_string(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {start, end}}};
    start = end;
  }
  std::string text = header.dump();
  const std::uint64_t before = sizeof(std::uint64_t) + text.size();
  text.append((kAlignment - before % kAlignment) % kAlignment, ' ');
  const std::uint64_t length = text.size();
  file_.append(std::as_bytes(std::span(&length, 1)));
  file_.append(text);
}

void SafetensorsWriter::append(std::span<const std::byte> tensor) {
  assert(checksums_.size() < infos_.size());
  const TensorInfo& info = infos_[checksums_.size()];
  assert(tensor.size() == size_of(info));
  // Piece by piece, so that both sums are made while the bytes are in the cache.
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  Checksum checksum;
  while (!tensor.empty()) {
    const std::span<const std::byte> piece = tensor.first(std::min(tensor.size(), kPiece));
    checksum.add(piece);
    file_.append(piece);
    tensor = tensor.subspan(piece.size());
  }
  checksums_.emplace(info.name, checksum.text());
}

FileRecord SafetensorsWriter::finish() {
  assert(checksums_.size() == infos_.size());
  FileRecord record = file_.finish();
  record.tensors = std::move(checksums_);
  return record;
}

}  // namespace headrace
