#include "headrace/model/draws.h"

#include <algorithm>
#include <cstddef>
#include <map>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace headrace {
namespace {

// Before all others, and without a use in torch itself.
constexpr c10::DispatchKey kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

thread_local Draws* of_thread = nullptr;

bool is_generator(const c10::Argument& argument) {
  const auto optional = argument.type()->cast<c10::OptionalType>();
  return optional && optional->getElementType()->kind() == c10::TypeKind::GeneratorType;
}

bool is_default(const c10::IValue& generator) {
  return generator.isNone() || generator.toGenerator() == at::detail::getDefaultCPUGenerator();
}

// An operation that draws into, or by, tensors on the CPU. One without tensors makes its own and
// comes back here with it.
void draw(const c10::OperatorHandle& operation,
          c10::DispatchKeySet keys,
          torch::jit::Stack* stack) {
  const auto& arguments = operation.schema().arguments();
  const auto values = stack->end() - static_cast<std::ptrdiff_t>(arguments.size());
  bool on_cpu = false, elsewhere = false;
  c10::IValue* generator = nullptr;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    c10::IValue& value = values[static_cast<std::ptrdiff_t>(i)];
    if (value.isTensor() && value.toTensor().defined())
      (value.toTensor().is_cpu() ? on_cpu : elsewhere) = true;
    if (is_generator(arguments[i])) generator = &value;
  }
  if (of_thread != nullptr && on_cpu && !elsewhere && is_default(*generator))
    *generator = of_thread->generator();
  operation.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kKey),
                            stack);
}

// All others go on as if the key were not there.
TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, library) {
  library.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, TESTING_ONLY_GenericMode, library) {
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
    const auto operation = dispatcher.findSchema(name);
    if (!operation || name.name.compare(0, 6, "aten::") != 0) continue;
    if (std::ranges::any_of(operation->schema().arguments(), is_generator))
      library.impl(c10::toString(name).c_str(), torch::CppFunction::makeFromBoxedFunction<&draw>());
  }
}

std::mutex& lock_of(const at::Generator& generator) {
  static std::mutex mutex;
  static std::map<const void*, std::mutex> all;
  const std::lock_guard lock(mutex);
  return all[generator.unsafeGetGeneratorImpl()];
}

}  // namespace

Draws::Draws(std::uint64_t key, torch::Device device) : key_(key), outer_(of_thread), on_(kKey) {
  if (!device.is_cpu()) {
    of_device_ = at::globalContext().defaultGenerator(device);
    device_lock_ = std::unique_lock(lock_of(of_device_));
    const std::lock_guard lock(of_device_.mutex());
    before_ = of_device_.get_state();
    of_device_.set_current_seed(key);
    keyed_ = of_device_.get_state();
  }
  of_thread = this;
}

Draws::~Draws() {
  of_thread = outer_;
  if (!of_device_.defined()) return;
  const std::lock_guard lock(of_device_.mutex());
  of_device_.set_state(before_);
}

bool Draws::any() {
  if (generator_.defined()) return true;
  if (!of_device_.defined()) return false;
  const std::lock_guard lock(of_device_.mutex());
  return !torch::equal(of_device_.get_state(), keyed_);
}

at::Generator& Draws::generator() {
  if (!generator_.defined()) generator_ = at::detail::createCPUGenerator(key_);
  return generator_;
}

std::uint64_t next_of_default_generator(bool take) {
  at::Generator shared = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(shared.mutex());
  return at::check_generator<at::CPUGeneratorImpl>(take ? shared : shared.clone())->random64();
}

}  // namespace headrace
