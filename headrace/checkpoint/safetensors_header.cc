// Reads the header as it comes, without a tree of it: whatever is not of the one form that a header
// may have is refused where it stands, so that neither depth nor size of a hostile one costs memory.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/strict_json.h"
#include "headrace/checkpoint/safetensors.h"

namespace headrace {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxHeader = 100'000'000;  // as the reference implementation has it
constexpr std::size_t kMaxDimensions = 64;
constexpr std::string_view kMetadata = "__metadata__";

struct Entry {
  TensorInfo info;
  std::vector<std::uint64_t> offsets;
};

// What nlohmann's parser calls for each part of the text.
class HeaderReader {
 public:
  explicit HeaderReader(const std::string& name) : name_(&name) {}

  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool start_object(std::size_t) {
    if (place_ == Place::Begin) return go(Place::Top);
    if (place_ == Place::Tensor && !named_) return go(Place::Fields);
    if (place_ == Place::Metadata && !named_) return named_ = true;
    return refuse("an object");
  }
  bool key(std::string& key) {
    if (place_ == Place::Top) {
      check(!key.empty(), *name_, ": its header has a tensor without a name");
      check(names_.insert(key).second, *name_, ": its header has ", excerpt(key), " twice");
      named_ = false;
      if (key == kMetadata) return go(Place::Metadata);
      entries.emplace_back().info.name = key;
      seen_ = 0;
      return go(Place::Tensor);
    }
    if (place_ == Place::Metadata) {
      check(!metadata.contains(key), *name_, ": its metadata has ", excerpt(key), " twice");
      text_ = &metadata[key];
      return true;
    }
    const unsigned bit = key == "dtype" ? 1 : key == "shape" ? 2 : key == "data_offsets" ? 4 : 0;
    check(bit != 0, *name_, ": tensor ", tensor(), " has a field ", excerpt(key),
          ", which is not known");
    check((seen_ & bit) == 0, *name_, ": tensor ", tensor(), " has ", key, " twice");
    seen_ |= bit;
    return go(bit == 1 ? Place::Type : bit == 2 ? Place::Shape : Place::Offsets);
  }
  bool string(std::string& value) {
    if (place_ == Place::Metadata && text_ != nullptr) {
      *std::exchange(text_, nullptr) = std::move(value);
      return true;
    }
    if (place_ != Place::Type) return refuse("text");
    const std::optional<Dtype> dtype = parse_dtype(value);
    check(dtype.has_value(), *name_, ": tensor ", tensor(), " is of type ", excerpt(value),
          ", which is not known");
    entries.back().info.dtype = *dtype;
    return go(Place::Fields);
  }
  bool start_array(std::size_t) {
    if ((place_ != Place::Shape && place_ != Place::Offsets) || listing_) return refuse("a list");
    return listing_ = true;
  }
  bool number_unsigned(std::uint64_t value) {
    if (!listing_) return refuse("a number");
    std::vector<std::uint64_t>& list =
        place_ == Place::Shape ? entries.back().info.shape : entries.back().offsets;
    const std::size_t most = place_ == Place::Shape ? kMaxDimensions : 2;
    check(list.size() < most, *name_, ": tensor ", tensor(), " has more than ", most,
          place_ == Place::Shape ? " dimensions" : " offsets");
    list.push_back(value);
    return true;
  }
  bool end_array() {
    listing_ = false;
    return go(Place::Fields);
  }
  bool end_object() {
    if (place_ == Place::Fields) {
      check(seen_ == 7, *name_, ": tensor ", tensor(), " lacks ",
            (seen_ & 1) == 0   ? "dtype"
            : (seen_ & 2) == 0 ? "shape"
                               : "data_offsets");
      check(entries.back().offsets.size() == 2, *name_, ": tensor ", tensor(), " has ",
            entries.back().offsets.size(), " offsets; it must have 2");
    }
    return go(place_ == Place::Top ? Place::End : Place::Top);
  }

  bool null() { return refuse("null"); }
  bool boolean(bool) { return refuse("true or false"); }
  bool number_integer(std::int64_t) { return refuse("a number below 0"); }
  bool number_float(double, const std::string&) { return refuse("a number that is not whole"); }
  bool binary(Json::binary_t&) { return refuse("binary"); }
  bool parse_error(std::size_t position, const std::string&, const Json::exception& error) {
    const bool encoding = std::string_view(error.what()).find("UTF-8") != std::string_view::npos;
    throw Error(cat(*name_, ": its header is not JSON, at byte ", position, " of it",
                    encoding ? ": that is not UTF-8" : ""));
  }

 private:
  enum class Place : std::uint8_t {
    Begin,
    Top,
    Metadata,
    Tensor,
    Fields,
    Type,
    Shape,
    Offsets,
    End
  };

  bool go(Place place) {
    place_ = place;
    return true;
  }
  std::string tensor() const { return excerpt(entries.back().info.name); }
  bool refuse(const char* what) const {
    const std::string where = place_ == Place::Begin      ? "its header"
                              : place_ == Place::Metadata ? "its metadata"
                                                          : cat("tensor ", tensor());
    throw Error(cat(*name_, ": ", where, " has ", what, " where something else must stand"));
  }

  const std::string* name_;
  Place place_ = Place::Begin;
  bool named_ = false;  // the metadata's object has begun
  bool listing_ = false;
  unsigned seen_ = 0;  // fields of the tensor: bits of dtype, shape, data_offsets
  std::string* text_ = nullptr;
  std::set<std::string> names_;
};

std::uint64_t header_length(std::span<const std::byte> file, const std::string& name) {
  std::uint64_t length = 0;
  check(file.size() >= sizeof length, name, " is cut short: it has ", file.size(),
        " bytes, and a safetensors file at least 8");
  std::memcpy(&length, file.data(), sizeof length);
  check(length <= kMaxHeader, name, " is no safetensors file: its header would have ", length,
        " bytes, and ", kMaxHeader, " are the most");
  check(length <= file.size() - sizeof length, name, " is cut short: its header has ", length,
        " bytes, and the file ", file.size());
  return length;
}

// The bytes that the shape makes; nothing where 64 bits do not hold them.
std::optional<std::uint64_t> size_of(const TensorInfo& info) {
  std::uint64_t size = bytes_of(info.dtype);
  bool fits = true;
  for (const std::uint64_t n : info.shape) {
    if (n == 0) return 0;
    fits = fits && size <= std::numeric_limits<std::uint64_t>::max() / n;
    size *= n;
  }
  return fits ? std::optional(size) : std::nullopt;
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& name) {
  const std::uint64_t length = header_length(file, name);
  const auto* text = reinterpret_cast<const char*>(file.data() + sizeof length);
  const std::span<const std::byte> data = file.subspan(sizeof length + length);
  check(length > 0 && *text == '{', name,
        " is no safetensors file: its header does not begin with {");
  HeaderReader reader(name);
  Json::sax_parse(text, text + length, &reader);

  std::vector<Entry>& entries = reader.entries;
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  SafetensorsHeader header;
  header.metadata = std::move(reader.metadata);
  header.tensors.reserve(entries.size());
  std::uint64_t end = 0;
  for (Entry& entry : entries) {
    const std::string tensor = excerpt(entry.info.name);
    const std::uint64_t from = entry.offsets[0], to = entry.offsets[1];
    check(from <= to, name, ": tensor ", tensor, " ends before it begins: ", from, " to ", to);
    check(to <= data.size(), name, " is cut short: tensor ", tensor, " lies at ", from, " to ", to,
          ", and there are ", data.size(), " bytes of data");
    check(size_of(entry.info) == to - from, name, ": tensor ", tensor, " has ", to - from,
          " bytes, which its type ", to_string(entry.info.dtype), " and its shape do not make");
    check(from >= end, name, ": tensor ", tensor, " overlaps another at ", from);
    check(from == end, name, ": there is a hole of ", from - end, " bytes before tensor ", tensor);
    end = to;
    TensorView& view = header.tensors.emplace_back();
    static_cast<TensorInfo&>(view) = std::move(entry.info);
    view.bytes = data.subspan(from, to - from);
  }
  check(end == data.size(), name, " has ", data.size() - end, " bytes after its last tensor");
  return header;
}

}  // namespace headrace
