// The least program with an installed Headrace: two stages learn to copy their input.
#include <cstdio>

#include <headrace/pipe.h>

int main() {
  torch::manual_seed(1);
  torch::nn::Sequential model(torch::nn::Linear(4, 16), torch::nn::Tanh(),
                              torch::nn::Linear(16, 4));
  headrace::Pipe pipe(model, {.balance = {2, 1}, .microbatches = 4});
  torch::optim::Adam optimizer(pipe.parameters(), 0.01);
  double loss = 0;
  for (int i = 0; i < 300; ++i) {
    const torch::Tensor input = torch::randn({32, 4});
    optimizer.zero_grad();
    loss = pipe.step(input, input, [](const auto& output, const auto& target) {
      return torch::mse_loss(output, target);
    });
    optimizer.step();
  }
  std::printf("loss %.4f\n", loss);
  return loss < 0.2 ? 0 : 1;
}
