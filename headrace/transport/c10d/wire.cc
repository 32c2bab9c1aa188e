#include "headrace/transport/c10d/wire.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace headrace {

namespace {

constexpr std::uint64_t kMagic = 0x3130636172646568;  // "hedrac01"
constexpr std::uint32_t kDescriptionsApart = 1;
constexpr std::uint32_t kValuesInside = 2;
constexpr std::uint32_t kEnd = 4;

struct Prefix {
  std::uint64_t magic = kMagic;
  std::uint64_t sequence = 0;
  double sent = 0;
  std::int64_t step = 0;
  std::int32_t stage = 0;
  std::int32_t microbatch = 0;
  std::int64_t descriptions = 0;
  std::uint32_t flags = 0;
  std::uint8_t purpose = 0;
  std::uint8_t unused[3] = {};
};
static_assert(std::is_trivially_copyable_v<Prefix> && sizeof(Prefix) == 56);

// Followed by one 64-bit size for each dimension.
struct Description {
  std::uint16_t dimensions = 0;
  std::int8_t type = 0;
  std::uint8_t defined = 0;
  std::uint8_t requires_grad = 0;
  std::uint8_t on_device = 0;
  std::uint8_t unused[2] = {};
};
static_assert(std::is_trivially_copyable_v<Description> && sizeof(Description) == 8);

torch::Tensor bytes(std::int64_t size) {
  return torch::empty({size}, torch::kUInt8);
}

char* begin(const torch::Tensor& tensor) {
  return static_cast<char*>(tensor.mutable_data_ptr());
}

std::int64_t description_bytes(const Tensors& tensors) {
  std::int64_t total = 0;
  for (const torch::Tensor& tensor : tensors)
    total +=
        static_cast<std::int64_t>(sizeof(Description)) + (tensor.defined() ? tensor.dim() * 8 : 0);
  return total;
}

std::int64_t value_bytes(const Tensors& tensors) {
  std::int64_t total = 0;
  for (const torch::Tensor& tensor : tensors)
    if (tensor.defined()) total += static_cast<std::int64_t>(tensor.nbytes());
  return total;
}

char* write(char* to, const void* from, std::size_t size) {
  if (size > 0) std::memcpy(to, from, size);
  return to + size;
}

char* describe(char* to, const torch::Tensor& tensor) {
  Description description;
  if (tensor.defined()) {
    description.dimensions = static_cast<std::uint16_t>(tensor.dim());
    description.type = static_cast<std::int8_t>(tensor.scalar_type());
    description.defined = 1;
    description.requires_grad = tensor.requires_grad();
    description.on_device = !tensor.is_cpu();
  }
  to = write(to, &description, sizeof description);
  if (tensor.defined()) to = write(to, tensor.sizes().data(), tensor.sizes().size() * 8);
  return to;
}

}  // namespace

Packed pack(const Label& label,
            std::uint64_t sequence,
            double sent,
            const Tensors& tensors,
            const Tensors& values,
            std::int64_t first_part) {
  const std::int64_t descriptions = description_bytes(tensors);
  const bool at_hand = std::ranges::all_of(
      values, [](const torch::Tensor& value) { return !value.defined() || value.is_cpu(); });
  const auto prefix_size = static_cast<std::int64_t>(sizeof(Prefix));
  Prefix prefix;
  prefix.sequence = sequence;
  prefix.sent = sent;
  prefix.step = label.step;
  prefix.stage = label.stage;
  prefix.microbatch = label.microbatch;
  prefix.purpose = static_cast<std::uint8_t>(label.purpose);
  prefix.descriptions = descriptions;
  const bool apart = prefix_size + descriptions > first_part;
  const bool inside = at_hand && prefix_size + descriptions + value_bytes(values) <= first_part;
  prefix.flags = (apart ? kDescriptionsApart : 0) | (inside ? kValuesInside : 0);

  Packed packed;
  packed.first =
      bytes(prefix_size + (apart ? 0 : descriptions) + (inside ? value_bytes(values) : 0));
  char* to = write(begin(packed.first), &prefix, sizeof prefix);
  torch::Tensor described;
  if (apart) {
    described = bytes(descriptions);
    to = begin(described);
    packed.rest.push_back(described);
  }
  for (const torch::Tensor& tensor : tensors) to = describe(to, tensor);
  for (const torch::Tensor& value : values) {
    if (!value.defined() || value.numel() == 0) continue;
    if (inside)
      to = write(to, value.const_data_ptr(), value.nbytes());
    else
      packed.rest.push_back(value);
  }
  return packed;
}

torch::Tensor pack_end(std::uint64_t sequence) {
  Prefix prefix;
  prefix.sequence = sequence;
  prefix.flags = kEnd;
  torch::Tensor first = bytes(sizeof prefix);
  write(begin(first), &prefix, sizeof prefix);
  return first;
}

Opened open_first(const torch::Tensor& first) {
  Prefix prefix;
  std::memcpy(&prefix, first.const_data_ptr(), sizeof prefix);
  check(prefix.magic == kMagic,
        "a message does not start as ours do: the peer runs another version of headrace, or on a "
        "machine of another byte order");
  Opened opened;
  opened.label = {static_cast<Purpose>(prefix.purpose), prefix.step, prefix.stage,
                  prefix.microbatch};
  opened.sequence = prefix.sequence;
  opened.sent = prefix.sent;
  opened.descriptions = prefix.descriptions;
  opened.descriptions_apart = prefix.flags & kDescriptionsApart;
  opened.values_inside = prefix.flags & kValuesInside;
  opened.end = prefix.flags & kEnd;
  return opened;
}

Received receive_buffers(const Opened& opened,
                         const torch::Tensor& first,
                         const torch::Tensor& descriptions,
                         torch::Device device,
                         bool is_straight) {
  const char* from = opened.descriptions_apart
                         ? static_cast<const char*>(descriptions.const_data_ptr())
                         : static_cast<const char*>(first.const_data_ptr()) + sizeof(Prefix);
  const char* const end = from + opened.descriptions;
  const char* values = end;
  Received received;
  while (from < end) {
    Description description;
    std::memcpy(&description, from, sizeof description);
    from += sizeof description;
    received.on_device.push_back(description.on_device);
    received.requires_grad.push_back(description.requires_grad);
    received.tensors.emplace_back();
    if (!description.defined) continue;
    std::vector<std::int64_t> sizes(description.dimensions);
    if (!sizes.empty()) std::memcpy(sizes.data(), from, sizes.size() * 8);
    from += sizes.size() * 8;
    const bool to_device = description.on_device && !device.is_cpu();
    const bool at_once = to_device && is_straight && !opened.values_inside;
    torch::Tensor tensor =
        torch::empty(sizes, torch::TensorOptions(static_cast<torch::ScalarType>(description.type))
                                .device(at_once ? device : torch::kCPU)
                                .pinned_memory(to_device && !at_once));
    if (opened.values_inside && tensor.numel() > 0) {
      std::memcpy(tensor.mutable_data_ptr(), values, tensor.nbytes());
      values += tensor.nbytes();
    }
    received.tensors.back() = tensor;
  }
  return received;
}

}  // namespace headrace
