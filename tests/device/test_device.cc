#include "tests/device/test_device.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/GeneratorImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <torch/torch.h>

namespace headrace {
namespace {

using at::Tensor;
constexpr auto kDevice = c10::DeviceType::PrivateUse1;

std::atomic<std::int64_t> waits = 0;
// This thread is within a kernel's stand-in.
thread_local int in_kernel = 0;

struct InKernel {
  InKernel() { ++in_kernel; }
  ~InKernel() { --in_kernel; }
};

// Whole pages of each tensor, closed but while a copy opens them.
class ClosedMemory : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, device()};
    void* const memory =
        ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK_WITH(OutOfMemoryError, memory != MAP_FAILED, "no memory for ", bytes, " bytes");
    const std::lock_guard lock(mutex_);
    blocks_[memory] = {bytes, 0};
    return {memory, memory, &free, device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override;

  // The block that a tensor lies in, open as long as somebody copies.
  void open(const void* in) { count(in, 1); }
  void close(const void* in) { count(in, -1); }

 private:
  struct Block {
    std::size_t bytes = 0;
    int users = 0;
  };
  static c10::Device device() { return {kDevice, 0}; }
  static void free(void* memory);

  void count(const void* in, int by) {
    const std::lock_guard lock(mutex_);
    auto block = blocks_.upper_bound(const_cast<void*>(in));
    --block;
    block->second.users += by;
    ::mprotect(block->first, block->second.bytes,
               block->second.users > 0 ? PROT_READ | PROT_WRITE : PROT_NONE);
  }

  std::mutex mutex_;
  std::map<void*, Block> blocks_;
};

ClosedMemory& memory() {
  static ClosedMemory* const all = new ClosedMemory;  // tensors may outlive statics
  return *all;
}

void ClosedMemory::free(void* block) {
  const std::lock_guard lock(memory().mutex_);
  const auto found = memory().blocks_.find(block);
  ::munmap(block, found->second.bytes);
  memory().blocks_.erase(found);
}

class Opened {
 public:
  explicit Opened(const Tensor& tensor) : at_(tensor.is_cpu() ? nullptr : tensor.storage().data()) {
    if (at_ != nullptr) memory().open(at_);
  }
  ~Opened() {
    if (at_ != nullptr) memory().close(at_);
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

 private:
  const void* at_;
};

void ClosedMemory::copy_data(void* to, const void* from, std::size_t bytes) const {
  memory().open(to);
  memory().open(from);
  default_copy_data(to, from, bytes);
  memory().close(from);
  memory().close(to);
}

// The same memory, as the CPU sees it, for as long as it is open.
Tensor as_host(const Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       at::TensorOptions(tensor.dtype()).device(c10::kCPU));
}

void copy_values(const Tensor& from, const Tensor& to) {
  if (from.numel() == 0) return;
  if (from.device().type() == kDevice && to.is_cpu() && in_kernel == 0) ++waits;
  const Opened source(from), target(to);
  const at::NoGradGuard no_grad;
  as_host(to).copy_(as_host(from));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  copy_values(from, to);
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (from.sizes() != to.sizes()) to.resize_(from.sizes());
  copy_values(from, to);
  return to;
}

Tensor empty_strided(c10::IntArrayRef size,
                     c10::IntArrayRef stride,
                     std::optional<at::ScalarType> type,
                     std::optional<at::Layout>,
                     std::optional<at::Device>,
                     std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(type));
}

Tensor empty(c10::IntArrayRef size,
             std::optional<at::ScalarType> type,
             std::optional<at::Layout>,
             std::optional<at::Device>,
             std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(type), format);
}

const Tensor& resize(const Tensor& self,
                     c10::IntArrayRef size,
                     std::optional<at::MemoryFormat> format) {
  // Only results of kernels come here, and those are empty before.
  TORCH_CHECK(self.numel() == 0, "the test device resizes empty tensors alone");
  const Tensor fresh = at::empty(size, self.options(), format);
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
  Generator() : GeneratorImpl({kDevice, 0}, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)) {}
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
    auto* const copy = new Generator;
    copy->seed_ = seed_;
    return copy;
  }
  std::uint64_t seed_ = 0;
};

Tensor& bernoulli(Tensor& self, double p, std::optional<at::Generator> generator) {
  const InKernel within;
  auto of_host = at::detail::createCPUGenerator(generator->current_seed());
  copy_values(torch::empty(self.sizes(), self.options().device(c10::kCPU)).bernoulli_(p, of_host),
              self);
  return self;
}

// The attention of devices by that of the CPU, on copies.
Tensor to_host(const Tensor& tensor) {
  return tensor.to(c10::kCPU);
}

Tensor to_device(const Tensor& tensor) {
  return tensor.defined() ? tensor.to({kDevice, 0}) : tensor;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attend(const Tensor& q,
                                                  const Tensor& k,
                                                  const Tensor& v,
                                                  const std::optional<Tensor>&,
                                                  bool,
                                                  double dropout,
                                                  bool causal,
                                                  std::optional<double> scale) {
  const InKernel within;
  auto [out, log_sum] = at::_scaled_dot_product_flash_attention_for_cpu(
      to_host(q), to_host(k), to_host(v), dropout, causal, {}, scale);
  const Tensor none = torch::empty({0}, q.options().dtype(torch::kInt64));
  return {to_device(out), to_device(log_sum), none, none};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attend_backward(const Tensor& gradient,
                                                           const Tensor& q,
                                                           const Tensor& k,
                                                           const Tensor& v,
                                                           const Tensor&,
                                                           const Tensor& out,
                                                           const Tensor& log_sum,
                                                           const Tensor&,
                                                           const Tensor&,
                                                           double dropout,
                                                           std::array<bool, 4>,
                                                           bool causal,
                                                           std::optional<double> scale) {
  const InKernel within;
  auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      to_host(gradient), to_host(q), to_host(k), to_host(v), to_host(out), to_host(log_sum),
      dropout, causal, {}, scale);
  return {to_device(dq), to_device(dk), to_device(dv), Tensor()};
}

struct Hooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static const at::Generator generator = at::make_generator<Generator>();
    return generator;
  }
};

// One device whose stream is never behind.
struct Guard : c10::impl::NoOpDeviceGuardImpl<kDevice> {
  c10::Device getDevice() const override { return {kDevice, 0}; }
  c10::Device exchangeDevice(c10::Device) const override { return {kDevice, 0}; }
  c10::Stream getStream(c10::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, {kDevice, 0});
  }
  c10::Stream exchangeStream(c10::Stream) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, {kDevice, 0});
  }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};

void fallback(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  // A number may come from the host, as a tensor without dimensions; nothing else.
  const auto arguments = torch::jit::last(*stack, operation.schema().arguments().size());
  const auto require = [&](const Tensor& tensor) {
    TORCH_CHECK(!tensor.defined() || tensor.device().type() == kDevice || tensor.dim() == 0,
                operation.schema().name(), " is over two devices: one of its tensors, ",
                tensor.sizes(), ", is on the host");
  };
  for (const c10::IValue& value : arguments) {
    if (value.isTensor()) require(value.toTensor());
    if (value.isTensorList())
      for (const Tensor& tensor : value.toTensorList()) require(tensor);
  }
  const InKernel within;
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
  library.impl("_local_scalar_dense", TORCH_FN(to_number));
  library.impl("bernoulli_.float", TORCH_FN(bernoulli));
  library.impl("_scaled_dot_product_efficient_attention", TORCH_FN(attend));
  library.impl("_scaled_dot_product_efficient_attention_backward", TORCH_FN(attend_backward));
}

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

torch::Device test_device() {
  static const bool registered = [] {
    c10::register_privateuse1_backend("test_device");
    static Hooks hooks;
    at::RegisterPrivateUse1HooksInterface(&hooks);
    return true;
  }();
  (void)registered;
  return {kDevice, 0};
}

std::int64_t host_waits() {
  return waits;
}

}  // namespace headrace
