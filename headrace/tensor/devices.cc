#include "headrace/tensor/devices.h"

#include <exception>

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "headrace/base/error.h"
#include "headrace/tensor/cuda.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/tensor/memory.h"

namespace headrace {
namespace {

// "CUDA driver initialization failed, …. Are you sure …?": its first sentence.
std::string first_sentence(const std::string& text) {
  const std::size_t end = text.find(". ");
  std::string sentence = end == std::string::npos ? text : text.substr(0, end);
  if (sentence.ends_with('.')) sentence.pop_back();
  return sentence;
}

CudaDevices look() {
  CudaDevices found;
  const auto& hooks = at::globalContext().getAcceleratorHooksInterface(c10::DeviceType::CUDA);
  if (!hooks.isBuilt()) {
    found.why_none = "this libtorch is a CPU build";
    return found;
  }
  found.count = hooks.deviceCount();
  if (found.count > 0) return found;
  try {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    found.why_none = "CUDA_VISIBLE_DEVICES shows none";
  } catch (const std::exception& error) {
    found.why_none = first_sentence(text_of(error));
  }
  return found;
}

// Null where it keeps no statistics, or nothing has been made on the device.
c10::DeviceAllocator* caching_allocator(torch::Device device) {
  auto* const allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
  return allocator != nullptr && allocator->initialized() ? allocator : nullptr;
}

}  // namespace

const CudaDevices& cuda_devices() {
  static const CudaDevices found = look();
  return found;
}

std::string device_name(torch::Device device) {
  if (device.is_cpu()) return "CPU";
  const std::string name = device.is_cuda() ? cuda_properties(device.index()).name : "";
  return name.empty() ? device.str() : name;
}

std::string device_identity(torch::Device device) {
  if (device.is_cpu()) return "cpu";
  const std::string identity = device.is_cuda() ? cuda_properties(device.index()).uuid : "";
  return cat(c10::DeviceTypeName(device.type(), /*lower_case=*/true), " ",
             identity.empty() ? std::to_string(device.index()) : identity);
}

void use_device(torch::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
}

std::int64_t peak_memory(torch::Device device) {
  if (device.is_cpu()) return memory_account().peak();
  c10::DeviceAllocator* const allocator = caching_allocator(device);
  if (allocator == nullptr) return 0;
  constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return allocator->getDeviceStats(device.index()).allocated_bytes[kAll].peak;
}

double device_memory(torch::Device device) {
  if (!device.is_cuda()) return 0;
  torch::empty({1}, torch::TensorOptions(device));  // makes its context
  c10::DeviceAllocator* const allocator = caching_allocator(device);
  return allocator == nullptr
             ? 0
             : static_cast<double>(allocator->getMemoryInfo(device.index()).second);
}

}  // namespace headrace
