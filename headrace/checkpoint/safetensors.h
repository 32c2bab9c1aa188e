// The safetensors format: eight bytes with the header's length, a JSON header that names tensors,
// the tensors' bytes. The file is mapped, not read; only its header is looked at.
//
//   const SafetensorsFile file("model-00001-of-00002.safetensors");
//   const TensorView* weight = file.find("transformer.wte.weight");   // null: not there
//
// Strict, as docs/formats.md says: throws Error naming the file and what is wrong with it. Needs no
// torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "headrace/checkpoint/dtype.h"
#include "headrace/checkpoint/files.h"

namespace headrace {

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<std::uint64_t> shape;

  bool operator==(const TensorInfo&) const = default;
};

struct TensorView : TensorInfo {
  std::span<const std::byte> bytes;
};

std::string shape_text(const std::vector<std::uint64_t>& shape);  // "[96, 32]"

// In the order of their bytes.
struct SafetensorsHeader {
  std::vector<TensorView> tensors;
  std::map<std::string, std::string> metadata;
};

// Of a whole file's bytes, which the views then point into; `name` stands in messages for the file.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& name);

class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return map_->path(); }
  const std::vector<TensorView>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const TensorView* find(std::string_view name) const;
  std::span<const std::byte> bytes() const { return map_->bytes(); }

 private:
  std::unique_ptr<MappedFile> map_;
  SafetensorsHeader header_;
  std::map<std::string, std::size_t, std::less<>> places_;
};

// Writes one: the tensors are appended in the order of `tensors`. The data begins at a multiple of 64
// bytes, so that fp32 can be used in place.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<TensorInfo>& tensors);

  void append(std::span<const std::byte> tensor);  // all the bytes of the next
  FileRecord finish();                             // on disk when it returns

 private:
  std::vector<TensorInfo> infos_;
  FileWriter file_;
  std::map<std::string, std::string> checksums_;  // by name, of those that were appended
};

}  // namespace headrace
