// A module's random draws, by a key instead of by whoever drew before.
//
//   {
//     Draws draws(key, device);            // of (run, microbatch, module)
//     y = module.forward(x);               // a Dropout in it: the same mask for the same key
//   }
//   if (draws.any()) …
//
// torch's default generators belong to all threads of a process: ranks that are threads would race
// on them, and a forward that is run again would draw anew. While a Draws lives, operations of this
// thread that would draw from the CPU's default generator draw from one of its own: each of torch's
// operations that take a generator is looked at on its way through the dispatcher, as torch's vmap
// does with them, and others lose nothing by it. Of another device, where kernels take the default
// generator unasked, it sets that generator to the key, gives it back as it was, and holds a lock
// of the device meanwhile: its threads' kernels would stand in one queue anyway.
//
// Generators that a module keeps itself, and what draws without torch, are not seen.
#pragma once

#include <cstdint>
#include <mutex>

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/types.h>

namespace headrace {

class Draws {
 public:
  Draws(std::uint64_t key, torch::Device device);
  ~Draws();
  Draws(const Draws&) = delete;
  Draws& operator=(const Draws&) = delete;

  // Whether anything was drawn so far.
  bool any();

  // The one that takes the CPU's default generator's place; made when it is first asked for.
  at::Generator& generator();

 private:
  const std::uint64_t key_;
  at::Generator generator_;
  at::Generator of_device_;       // the default one of a device that is not the CPU
  torch::Tensor before_, keyed_;  // its states: the caller's, and the one that draws began from
  std::unique_lock<std::mutex> device_lock_;
  Draws* const outer_;
  c10::impl::IncludeDispatchKeyGuard on_;
};

// What the CPU's default generator gives next, to key draws by. `take`: it moves on by that.
std::uint64_t next_of_default_generator(bool take);

}  // namespace headrace
