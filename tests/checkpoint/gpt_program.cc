// A GPT in one process, for transformers_test.py: writes checkpoints of it, and computes with what
// lies in a folder.
//
//   gpt_program write DIRECTORY RANKS CONFIG_JSON   a checkpoint of random weights; prints its folder
//   gpt_program run FOLDER IDS ROWS NEW OUTPUT      prints the loss of each id's successor, then the
//                                                   NEW ids that follow each row greedily; OUTPUT
//                                                   gets the logits, fp32
//
// IDS is a file of int64, ROWS rows of them.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/checkpoint/read.h"
#include "headrace/checkpoint/write.h"
#include "headrace/model/gpt.h"
#include "headrace/model/hugging_face/gpt2.h"
#include "headrace/tensor/exception_text.h"

namespace headrace {
namespace {

using torch::Tensor;
using Arguments = std::span<char*>;

std::vector<std::string> names_of(const Naming& naming) {
  std::vector<std::string> names;
  for (const auto& [name, stored] : naming.stored) names.push_back(name);
  return names;
}

void write(const Arguments& arguments) {
  const std::string directory = arguments[0];
  const int ranks = std::stoi(arguments[1]);
  const GptConfig config = parse_gpt2_config(read_file(arguments[2]), arguments[2]);
  const Naming naming = gpt2_naming(config);
  torch::manual_seed(1);
  for (int rank = 0; rank < ranks; ++rank) {
    Snapshot share{.step = 12, .samples = 96, .seed = 1, .numbers = {{"updates", 12}}};
    int number = 0;
    for (const auto& [name, stored] : naming.stored) {
      if (number++ % ranks != rank) continue;
      // Far from where training starts, so that every parameter shows in the logits.
      const bool is_scale = name.ends_with("norm.weight");
      share.weights[name] = torch::randn(stored.shape) * 0.2 + (is_scale ? 1 : 0);
      share.first[name] = torch::randn(stored.shape);
      share.second[name] = torch::rand(stored.shape);
    }
    write_share(directory, share, naming, rank, ranks);
  }
  std::cout << complete_checkpoint(directory, 12, ranks, naming,
                                   {gpt2_config_json(config), "# none\n"})
                   .string()
            << "\n";
}

struct Model {
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<Tensors> weights;
};

Model model_of(const std::string& folder) {
  const std::string file = folder + "/config.json";
  const GptConfig config = parse_gpt2_config(read_file(file), file);
  const Naming naming = gpt2_naming(config);
  const NamedTensors weights = read_weights(folder, names_of(naming), naming);
  Model model;
  for (const LayerSpec& spec : gpt(config)) {
    model.layers.push_back(spec.build());
    Tensors& of_layer = model.weights.emplace_back();
    for (const ParameterSpec& parameter : spec.parameters)
      of_layer.push_back(weights.at(parameter.name));
  }
  return model;
}

Tensor forward(const Model& model, const Tensor& ids, const Context& context) {
  Tensors values = {ids};
  for (std::size_t i = 0; i < model.layers.size(); ++i)
    values = model.layers[i]->forward(values, context, {.weights = model.weights[i]});
  return values[0];
}

void run(const Arguments& arguments) {
  const Model model = model_of(arguments[0]);
  std::string bytes = read_file(arguments[1]);
  Tensor ids =
      torch::from_blob(bytes.data(), {static_cast<std::int64_t>(bytes.size() / 8)}, torch::kInt64)
          .view({std::stol(arguments[2]), -1})
          .clone();
  const std::int64_t length = ids.size(1);
  Context training;
  training.targets = torch::full_like(ids, -100);
  training.targets.slice(1, 0, length - 1).copy_(ids.slice(1, 1));
  training.normaliser = 1.0 / static_cast<double>(ids.size(0) * (length - 1));
  std::printf("%.17g\n", forward(model, ids, training).item<double>());

  const torch::NoGradGuard no_grad;
  Context context;
  context.training = false;
  const Tensor logits = forward(model, ids, context).contiguous();
  write_file(arguments[4], {static_cast<const char*>(logits.data_ptr()), logits.nbytes()});
  for (int i = 0; i < std::stoi(arguments[3]); ++i) {
    const Tensor last = forward(model, ids, context).select(1, -1);
    ids = torch::cat({ids, last.argmax(1, /*keepdim=*/true)}, 1);
  }
  const Tensor added = ids.slice(1, length).contiguous();
  for (std::int64_t i = 0; i < added.numel(); ++i)
    std::printf("%ld ", static_cast<long>(added.view(-1)[i].item<std::int64_t>()));
  std::printf("\n");
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
  const headrace::Arguments arguments(argv, static_cast<std::size_t>(argc));
  try {
    const std::string command = argc > 1 ? argv[1] : "";
    if (command == "write" && argc == 5) {
      headrace::write(arguments.subspan(2));
    } else if (command == "run" && argc == 7) {
      headrace::run(arguments.subspan(2));
    } else {
      return 2;
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << headrace::text_of(error) << "\n";
    return 1;
  }
}
