// A model in one process, for transformers_test.py: writes checkpoints of it, and computes with what
// lies in a folder.
//
//   model_program write DIRECTORY RANKS CONFIG_JSON   a checkpoint of random weights; prints its folder
//   model_program run FOLDER IDS ROWS NEW OUTPUT      prints the loss of each id's successor, then the
//                                                   NEW ids that follow each row greedily; OUTPUT
//                                                   gets the logits, fp32
//   model_program gradients FOLDER IDS ROWS DIRECTORY
//                                                   a checkpoint whose weights are that loss's gradients; prints its
//                                                   folder
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
#include "headrace/model/hugging_face/hugging_face.h"
#include "headrace/model/transformer.h"
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
  const TransformerConfig config = parse_config_json(read_file(arguments[2]), arguments[2]);
  const Naming naming = naming_of(config);
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
  std::cout << complete_checkpoint(directory, 12, ranks, naming, {config_json(config), "# none\n"})
                   .string()
            << "\n";
}

struct Model {
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<Tensors> weights;
};

Model model_of(const std::string& folder) {
  const std::string file = folder + "/config.json";
  const TransformerConfig config = parse_config_json(read_file(file), file);
  const Naming naming = naming_of(config);
  const NamedTensors weights = read_weights(folder, names_of(naming), naming);
  Model model;
  for (const LayerSpec& spec : transformer(config)) {
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

Tensor ids_of(const std::string& file, const std::string& rows) {
  std::string bytes = read_file(file);
  return torch::from_blob(bytes.data(), {static_cast<std::int64_t>(bytes.size() / 8)},
                          torch::kInt64)
      .view({std::stol(rows), -1})
      .clone();
}

// Of each id's successor.
Context successors(const Tensor& ids) {
  const std::int64_t length = ids.size(1);
  Context training;
  training.targets = torch::full_like(ids, -100);
  training.targets.slice(1, 0, length - 1).copy_(ids.slice(1, 1));
  training.normaliser = 1.0 / static_cast<double>(ids.size(0) * (length - 1));
  return training;
}

void gradients(const Arguments& arguments) {
  const std::string file = arguments[0] + std::string("/config.json");
  const TransformerConfig config = parse_config_json(read_file(file), file);
  const Naming naming = naming_of(config);
  const Tensor ids = ids_of(arguments[1], arguments[2]);
  Model model = model_of(arguments[0]);
  for (Tensors& of_layer : model.weights)
    for (Tensor& weight : of_layer) weight.requires_grad_(true);
  forward(model, ids, successors(ids)).backward();
  Snapshot share;
  std::size_t layer = 0;
  for (const LayerSpec& spec : transformer(config)) {
    for (std::size_t i = 0; i < spec.parameters.size(); ++i) {
      const std::string& name = spec.parameters[i].name;
      const Tensor& gradient = model.weights[layer][i].grad();
      // A tied matrix is one tensor in both of its layers here, and so has one gradient.
      share.weights[name] = gradient;
      share.first[name] = share.second[name] = torch::zeros_like(gradient);
    }
    ++layer;
  }
  write_share(arguments[3], share, naming, 0, 1);
  std::cout
      << complete_checkpoint(arguments[3], 0, 1, naming, {config_json(config), "# none\n"}).string()
      << "\n";
}

void run(const Arguments& arguments) {
  const Model model = model_of(arguments[0]);
  Tensor ids = ids_of(arguments[1], arguments[2]);
  const std::int64_t length = ids.size(1);
  std::printf("%.17g\n", forward(model, ids, successors(ids)).item<double>());

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
    } else if (command == "gradients" && argc == 6) {
      headrace::gradients(arguments.subspan(2));
    } else {
      return 2;
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << headrace::text_of(error) << "\n";
    return 1;
  }
}
