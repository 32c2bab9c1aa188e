#include "tests/device/test_device.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/GeneratorImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/torch.h>

#include "tests/device/closed_memory.h"
#include "tests/device/parts.h"
#include "tests/device/pinned_memory.h"
#include "tests/device/stream_order.h"

namespace headrace {
namespace {

using namespace device_parts;
using at::Tensor;
constexpr auto kDevice = kTestDevice;

// The same memory, as the CPU sees it, for as long as it is open.
Tensor as_host(const Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       at::TensorOptions(tensor.dtype()).device(c10::kCPU));
}

bool is_on_device(const Tensor& tensor) {
  return tensor.device().type() == kDevice;
}

stream_order::StreamKey stream_of(const Tensor& tensor) {
  return {tensor.device().index(), stream_order::current(tensor.device().index())};
}

// The host goes on at once only where the memory of its own side is pinned.
void copy_values(const Tensor& from, const Tensor& to, bool non_blocking = false) {
  if (from.numel() == 0) return;
  {
    const Opened source(from, false, kernel), target(to, true, kernel);
    const at::NoGradGuard no_grad;
    as_host(to).copy_(as_host(from));
  }
  if (in_kernel > 0 || (is_on_device(from) && is_on_device(to))) return;
  const Tensor& on_device = is_on_device(from) ? from : to;
  const Tensor& on_host = is_on_device(from) ? to : from;
  if (non_blocking && on_host.is_pinned()) return;
  ++waits;
  stream_order::host_waited_for(stream_order::record(stream_of(on_device)));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool non_blocking) {
  copy_values(from, to, non_blocking);
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (from.sizes() != to.sizes()) to.resize_(from.sizes());
  copy_values(from, to);
  return to;
}

c10::DeviceIndex index_of(std::optional<at::Device> device) {
  return device && device->has_index() ? device->index() : current_device();
}

Tensor empty_strided(c10::IntArrayRef size,
                     c10::IntArrayRef stride,
                     std::optional<at::ScalarType> type,
                     std::optional<at::Layout>,
                     std::optional<at::Device> device,
                     std::optional<bool>) {
  const c10::DeviceGuard there({kDevice, index_of(device)});
  return at::detail::empty_strided_generic(size, stride, &closed_memory(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(type));
}

Tensor empty(c10::IntArrayRef size,
             std::optional<at::ScalarType> type,
             std::optional<at::Layout>,
             std::optional<at::Device> device,
             std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard there({kDevice, index_of(device)});
  return at::detail::empty_generic(size, &closed_memory(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(type), format);
}

const Tensor& resize(const Tensor& self,
                     c10::IntArrayRef size,
                     std::optional<at::MemoryFormat> format) {
  // Only results of kernels come here, which need not keep what they hold.
  const Tensor fresh = at::empty(size, self.options(), format);
  if (fresh.nbytes() > self.storage().nbytes())
    self.unsafeGetTensorImpl()->set_storage_and_dtype(fresh.storage(), fresh.dtype());
  self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}

at::Scalar to_number(const Tensor& self) {
  return self.to(c10::kCPU).item();
}

// What a kernel draws with: a seed.
class Generator : public c10::GeneratorImpl {
 public:
  explicit Generator(c10::DeviceIndex index)
      : GeneratorImpl({kDevice, index}, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)) {}
  void set_current_seed(std::uint64_t seed) override { seed_ = seed; }
  void set_offset(std::uint64_t) override {}
  std::uint64_t get_offset() const override { return 0; }
  std::uint64_t current_seed() const override { return seed_; }
  std::uint64_t seed() override { return seed_; }
  void set_state(const c10::TensorImpl&) override {}
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return torch::empty({0}, torch::kUInt8).getIntrusivePtr();
  }

 private:
  Generator* clone_impl() const override {
    auto* const copy = new Generator(device().index());
    copy->seed_ = seed_;
    return copy;
  }
  std::uint64_t seed_ = 0;
};

Tensor& bernoulli(Tensor& self, double p, std::optional<at::Generator> generator) {
  const InKernel within("bernoulli_");
  auto of_host = at::detail::createCPUGenerator(generator->current_seed());
  copy_values(torch::empty(self.sizes(), self.options().device(c10::kCPU)).bernoulli_(p, of_host),
              self);
  return self;
}

struct Hooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return kTestDevices; }
  bool isPinnedPtr(const void* memory) const override { return Pinned::get().has(memory); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &Pinned::get(); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override {
    static const std::array<at::Generator, kTestDevices> generators = {
        at::make_generator<Generator>(c10::DeviceIndex{0}),
        at::make_generator<Generator>(c10::DeviceIndex{1})};
    return generators.at(static_cast<std::size_t>(index < 0 ? current_device() : index));
  }
};

void fallback(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  // A number may come from the host, as a tensor without dimensions; nothing else, and nothing from another device.
  std::optional<c10::Device> only;
  const auto arguments = torch::jit::last(*stack, operation.schema().arguments().size());
  const auto require = [&](const Tensor& tensor) {
    if (!tensor.defined() || (!is_on_device(tensor) && tensor.dim() == 0)) return;
    if (is_on_device(tensor) && !only) only = tensor.device();
    TORCH_CHECK(only && tensor.device() == *only, operation.schema().name(),
                " is over two devices: one of its tensors, ", tensor.sizes(), ", is on ",
                tensor.device());
  };
  for (const c10::IValue& value : arguments) {
    if (value.isTensor()) require(value.toTensor());
    if (value.isTensorList())
      for (const Tensor& tensor : value.toTensorList()) require(tensor);
  }
  const InKernel within(operation.schema().name().c_str());
  at::native::cpu_fallback(operation, stack, /*error_on_views=*/true);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

// What autocast would choose for operations of torch is chosen for none: our own ask for their types.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", TORCH_FN(empty));
  library.impl("empty_strided", TORCH_FN(empty_strided));
  library.impl("_copy_from", TORCH_FN(copy_from));
  library.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
  library.impl("resize_", TORCH_FN(resize));
  library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  library.impl("_local_scalar_dense", TORCH_FN(to_number));
  library.impl("bernoulli_.float", TORCH_FN(bernoulli));
  library.impl("_fused_sdp_choice", TORCH_FN(choice));
  library.impl("_scaled_dot_product_flash_attention", TORCH_FN(flash));
  library.impl("_scaled_dot_product_flash_attention_backward", TORCH_FN(flash_backward));
  library.impl("_scaled_dot_product_efficient_attention", TORCH_FN(attend));
  library.impl("_scaled_dot_product_efficient_attention_backward", TORCH_FN(attend_backward));
}

torch::Device test_device(int index) {
  static const bool registered = [] {
    c10::register_privateuse1_backend("test_device");
    static Hooks hooks;
    static const c10::impl::DeviceGuardImplRegistrar guard(kDevice, &device_guard());
    at::RegisterPrivateUse1HooksInterface(&hooks);
    c10::SetAllocator(kDevice, &closed_memory());
    return true;
  }();
  (void)registered;
  return {kDevice, static_cast<c10::DeviceIndex>(index)};
}

std::vector<std::string> order_faults() {
  return stream_order::faults();
}

void hold_events(bool on) {
  device_parts::events_held = on;
}

void limit_tensors(std::int64_t bytes) {
  closed_memory().largest = bytes;
}

std::int64_t host_waits() {
  return device_parts::waits;
}

}  // namespace headrace
