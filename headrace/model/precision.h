// Mixed precision: matrix products and attention in bf16 or fp16, everything else, the weights and
// the sums of gradients in fp32 (Micikevicius et al., Mixed Precision Training, ICLR 2018).
//
// Layers of the user's own get it by torch's autocast. The operations of ops/ and operations.h
// do as autocast would, but with one copy of each matrix a step instead of one a forward, and see
// nothing of it.
#pragma once

#include <cstdint>

#include <ATen/autocast_mode.h>
#include <torch/types.h>

namespace headrace {

// A matrix in the type of the products. The copy is made again when the weights' version changes.
class Cast {
 public:
  // `version` as Context::weights; below 0 the copy is made at every call. fp32: `matrix` itself.
  const torch::Tensor& of(const torch::Tensor& matrix,
                          torch::ScalarType type,
                          std::int64_t version);

 private:
  torch::Tensor copy_;
  std::int64_t version_ = -1;
};

// While it lives, this thread's operations of torch on `device` choose their type as autocast does.
// fp32: changes nothing.
class Autocast {
 public:
  Autocast(torch::DeviceType device, torch::ScalarType type);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  const torch::DeviceType device_;
  const bool on_;
  bool was_on_ = false;
  torch::ScalarType was_type_ = torch::kFloat32;
};

// Operations take their operands as they are.
struct NoAutocast {
  c10::impl::ExcludeDispatchKeyGuard guard{c10::autocast_dispatch_keyset};
};

// Operations take their operands as they are, and no graph is recorded: inside of forwards and
// backwards of our own.
struct Direct {
  at::AutoDispatchBelowADInplaceOrView no_graph;
  NoAutocast as_they_are;
};

}  // namespace headrace
