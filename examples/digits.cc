// Image classification over stages: a convolutional network on the handwritten digits of
// scikit-learn (1,797 images of 8 × 8; `./run` fetches them to data/digits/digits.csv).
//
//   digits FILE.csv [epochs=20] [stages=2 or 3]
//
// Prints the training loss and the validation accuracy of each epoch.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "headrace/base/error.h"
#include "headrace/pipe.h"
#include "headrace/tensor/exception_text.h"

namespace {

struct Digits {
  torch::Tensor images, labels;
};

// A line an image: 64 grey values of 0 to 16, then the digit.
Digits read_digits(const std::string& file) {
  std::ifstream in(file);
  headrace::check(in.good(), "cannot read '", file, "'; ./run test fetches it");
  std::vector<float> values;
  std::vector<std::int64_t> labels;
  for (std::string line; std::getline(in, line);) {
    std::istringstream cells(line);
    std::vector<float> row;
    for (std::string cell; std::getline(cells, cell, ',');) row.push_back(std::stof(cell));
    headrace::check(row.size() == 65, file, ": line ", labels.size() + 1, " has ", row.size(),
                    " values, not 65");
    values.insert(values.end(), row.begin(), row.end() - 1);
    labels.push_back(static_cast<std::int64_t>(row.back()));
  }
  const auto count = static_cast<std::int64_t>(labels.size());
  return {torch::tensor(values).view({count, 1, 8, 8}) / 16, torch::tensor(labels)};
}

torch::nn::Sequential network() {
  using namespace torch::nn;  // NOLINT(google-build-using-namespace)
  return Sequential(Conv2d(Conv2dOptions(1, 32, 3).padding(1)), ReLU(),
                    Conv2d(Conv2dOptions(32, 32, 3).padding(1)), ReLU(), MaxPool2d(2),
                    Conv2d(Conv2dOptions(32, 64, 3).padding(1)), ReLU(), MaxPool2d(2), Flatten(),
                    Linear(256, 64), ReLU(), Linear(64, 10));
}

int run(const std::string& file, int epochs, int stages) {
  torch::manual_seed(1);
  const Digits all = read_digits(file);
  const std::int64_t count = all.labels.size(0);
  const torch::Tensor order = torch::randperm(count);
  const torch::Tensor training = order.slice(0, 0, count * 4 / 5);
  const torch::Tensor validation = order.slice(0, count * 4 / 5);

  torch::nn::Sequential model = network();
  headrace::PipeOptions options;
  options.balance = stages == 3 ? std::vector<int>{3, 4, 5} : std::vector<int>{4, 8};
  options.microbatches = 4;
  headrace::Pipe pipe(model, options);
  torch::optim::Adam optimizer(pipe.parameters(), 1e-3);
  std::printf("%lld images for training, %lld for validation, %d stages\n",
              static_cast<long long>(training.size(0)), static_cast<long long>(validation.size(0)),
              pipe.ranks());
  double accuracy = 0;
  for (int epoch = 1; epoch <= epochs; ++epoch) {
    double loss = 0;
    int batches = 0;
    for (const torch::Tensor& rows :
         training.index({torch::randperm(training.size(0))}).split(64)) {
      optimizer.zero_grad();
      loss += pipe.step(all.images.index({rows}), all.labels.index({rows}),
                        [](const auto& output, const auto& target) {
                          return torch::nn::functional::cross_entropy(output, target);
                        });
      ++batches;
      optimizer.step();
    }
    const torch::NoGradGuard no_grad;
    const torch::Tensor guess = pipe.forward(all.images.index({validation})).argmax(1);
    accuracy = guess.eq(all.labels.index({validation})).to(torch::kFloat64).mean().item<double>();
    std::printf("epoch %2d  training loss %.4f  validation accuracy %.2f%%\n", epoch,
                loss / batches, 100 * accuracy);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    headrace::check(argc >= 2, "usage: digits FILE.csv [epochs=20] [stages=2 or 3]");
    return run(argv[1], argc > 2 ? std::max(1, std::atoi(argv[2])) : 20,
               argc > 3 ? std::atoi(argv[3]) : 2);
  } catch (const std::exception& error) {
    std::cerr << "error: " << headrace::text_of(error) << "\n";
    return 1;
  }
}
