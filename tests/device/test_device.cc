#include "tests/device/test_device.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <set>
#include <tuple>
#include <utility>

#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/GeneratorImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/torch.h>

#include "tests/device/closed_memory.h"
#include "tests/device/stream_order.h"

namespace headrace {
namespace {

using at::Tensor;
constexpr auto kDevice = kTestDevice;

std::atomic<std::int64_t> waits = 0;
std::atomic<bool> events_held = false;
// This thread is within a kernel's stand-in.
thread_local int in_kernel = 0;

// The kernel that stands in for another one now, for what a fault says.
thread_local const char* kernel = "a copy";

struct InKernel {
  explicit InKernel(const char* name) : outer(std::exchange(kernel, name)) { ++in_kernel; }
  ~InKernel() {
    --in_kernel;
    kernel = outer;
  }
  InKernel(const InKernel&) = delete;
  InKernel& operator=(const InKernel&) = delete;
  const char* const outer;
};

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

// The attention of devices by that of the CPU, on copies.
Tensor to_host(const Tensor& tensor) {
  return tensor.to(c10::kCPU);
}

Tensor back(const Tensor& tensor, const Tensor& like) {
  return tensor.defined() ? tensor.to(like.device()) : tensor;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attend(const Tensor& q,
                                                  const Tensor& k,
                                                  const Tensor& v,
                                                  const std::optional<Tensor>&,
                                                  bool,
                                                  double dropout,
                                                  bool causal,
                                                  std::optional<double> scale) {
  const InKernel within("attention");
  auto [out, log_sum] = at::_scaled_dot_product_flash_attention_for_cpu(
      to_host(q), to_host(k), to_host(v), dropout, causal, {}, scale);
  const Tensor none = torch::empty({0}, q.options().dtype(torch::kInt64));
  return {back(out, q), back(log_sum, q), none, none};
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
  const InKernel within("attention");
  auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      to_host(gradient), to_host(q), to_host(k), to_host(v), to_host(out), to_host(log_sum),
      dropout, causal, {}, scale);
  return {back(dq, q), back(dk, q), back(dv, q), Tensor()};
}

// Memory of the host that copies need not wait for.
class Pinned : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* const memory = ::operator new(bytes + 1);
    const std::lock_guard lock(mutex_);
    blocks_.insert(memory);
    return {memory, memory, &free, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  bool has(const void* memory) {
    const std::lock_guard lock(mutex_);
    return blocks_.contains(const_cast<void*>(memory));
  }
  static Pinned& get() {
    static auto* const all = new Pinned;
    return *all;
  }

 private:
  static void free(void* memory) {
    {
      const std::lock_guard lock(get().mutex_);
      get().blocks_.erase(memory);
    }
    ::operator delete(memory);
  }
  std::mutex mutex_;
  std::set<void*> blocks_;
};

// As on a GPU: flash attention in half precision alone.
std::int64_t choice(const Tensor& q,
                    const Tensor&,
                    const Tensor&,
                    const std::optional<Tensor>&,
                    double,
                    bool,
                    std::optional<double>,
                    bool) {
  constexpr std::int64_t kFlash = 1, kEfficient = 2;
  return q.scalar_type() == at::kFloat ? kEfficient : kFlash;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor> flash(
    const Tensor& q,
    const Tensor& k,
    const Tensor& v,
    double dropout,
    bool causal,
    bool,
    std::optional<double> scale) {
  TORCH_CHECK(q.scalar_type() != at::kFloat, "flash attention is for half precision");
  auto [out, log_sum, seed, offset] = attend(q, k, v, {}, true, dropout, causal, scale);
  return {out, log_sum, {}, {}, q.size(2), k.size(2), seed, offset, {}};
}

std::tuple<Tensor, Tensor, Tensor> flash_backward(const Tensor& gradient,
                                                  const Tensor& q,
                                                  const Tensor& k,
                                                  const Tensor& v,
                                                  const Tensor& out,
                                                  const Tensor& log_sum,
                                                  const Tensor&,
                                                  const Tensor&,
                                                  c10::SymInt,
                                                  c10::SymInt,
                                                  double dropout,
                                                  bool causal,
                                                  const Tensor& seed,
                                                  const Tensor& offset,
                                                  std::optional<double> scale) {
  auto [dq, dk, dv, none] = attend_backward(gradient, q, k, v, {}, out, log_sum, seed, offset,
                                            dropout, {}, causal, scale);
  return {dq, dk, dv};
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

// Work is done when it is asked for; what its order would be on a device that is behind is kept beside it. An
// event seems not to be reached yet when it is first asked.
struct Guard : c10::impl::DeviceGuardImplInterface {
  struct Event {
    stream_order::Clock clock;
    std::chrono::steady_clock::time_point time;
    std::atomic<int> asked = 0;
  };
  static Event& event_at(void* event) { return *static_cast<Event*>(event); }
  static stream_order::StreamKey key(const c10::Stream& stream) {
    return {stream.device_index(), stream.id()};
  }
  static c10::Stream stream(c10::StreamId id, c10::DeviceIndex index) {
    return c10::Stream(c10::Stream::UNSAFE, {kDevice, index}, id);
  }

  c10::DeviceType type() const override { return kDevice; }
  c10::Device getDevice() const override { return {kDevice, current_device()}; }
  c10::Device exchangeDevice(c10::Device device) const override {
    return {kDevice, exchange_device(device.index())};
  }
  void setDevice(c10::Device device) const override { exchange_device(device.index()); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    exchange_device(device.index());
  }
  c10::DeviceIndex deviceCount() const noexcept override { return kTestDevices; }
  c10::Stream getStream(c10::Device device) const override {
    return stream(stream_order::current(device.index()), device.index());
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return stream(0, device.index());
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    return stream(stream_order::next_of_pool(), device.index());
  }
  c10::Stream exchangeStream(c10::Stream next) const override {
    return stream(stream_order::exchange(next.device_index(), next.id()), next.device_index());
  }
  void record(void** event,
              const c10::Stream& on,
              const c10::DeviceIndex,
              const c10::EventFlag) const override {
    if (*event == nullptr) *event = new Event;
    Event& made = event_at(*event);
    made.clock = stream_order::record(key(on));
    made.time = std::chrono::steady_clock::now();
    made.asked = 0;
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }
  void block(void* event, const c10::Stream& on) const override {
    if (event != nullptr) stream_order::come_after(key(on), event_at(event).clock);
  }
  bool queryEvent(void* event) const override {
    if (event == nullptr) return true;
    if (events_held) return false;
    if (stream_order::host_has_waited_for(event_at(event).clock)) return true;
    if (event_at(event).asked++ == 0) return false;
    stream_order::host_waited_for(event_at(event).clock);
    return true;
  }
  void synchronizeEvent(void* event) const override {
    ++waits;
    if (event != nullptr) stream_order::host_waited_for(event_at(event).clock);
  }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream& on) const override {
    ++waits;
    stream_order::host_waited_for(stream_order::record(key(on)));
  }
  void recordDataPtrOnStream(const c10::DataPtr& pointer, const c10::Stream& on) const override {
    closed_memory().recordStream(pointer, on);
  }
  double elapsedTime(void* from, void* to, const c10::DeviceIndex) const override {
    const std::chrono::duration<double, std::milli> between =
        event_at(to).time - event_at(from).time;
    return between.count();
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
  library.impl("_local_scalar_dense", TORCH_FN(to_number));
  library.impl("bernoulli_.float", TORCH_FN(bernoulli));
  library.impl("_fused_sdp_choice", TORCH_FN(choice));
  library.impl("_scaled_dot_product_flash_attention", TORCH_FN(flash));
  library.impl("_scaled_dot_product_flash_attention_backward", TORCH_FN(flash_backward));
  library.impl("_scaled_dot_product_efficient_attention", TORCH_FN(attend));
  library.impl("_scaled_dot_product_efficient_attention_backward", TORCH_FN(attend_backward));
}

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

torch::Device test_device(int index) {
  static const bool registered = [] {
    c10::register_privateuse1_backend("test_device");
    static Hooks hooks;
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
  events_held = on;
}

std::int64_t host_waits() {
  return waits;
}

}  // namespace headrace
