// A pipe at global scope, destroyed after main: the process ends. With "throw", an exception leaves
// main in the middle of a step.
#include <memory>
#include <string>

#include "headrace/pipe.h"

namespace {

std::unique_ptr<headrace::Pipe>& pipe() {
  static std::unique_ptr<headrace::Pipe> the_one;
  return the_one;
}

}  // namespace

int main(int argc, char** argv) {
  const bool throws = argc > 1 && std::string(argv[1]) == "throw";
  pipe() = std::make_unique<headrace::Pipe>(
      torch::nn::Sequential(torch::nn::Linear(4, 4), torch::nn::Linear(4, 4)),
      headrace::PipeOptions{.balance = {1, 1}, .microbatches = 2});
  for (int i = 0; i < 3; ++i)
    pipe()->step(
        torch::zeros({4, throws && i == 2 ? 5 : 4}), torch::zeros({4, 4}),
        [](const auto& output, const auto& target) { return torch::mse_loss(output, target); });
  return 0;
}
