// The commands of the program: one file each. Each function adds its subcommand and what it does to
// the program.
#pragma once

#include <array>
#include <utility>

namespace CLI {
class App;
}

namespace headrace {

void add_show(CLI::App& program);
void add_check(CLI::App& program);
void add_simulate(CLI::App& program);
void add_export(CLI::App& program);
void add_checkpoint(CLI::App& program);

// Those that need libtorch, with what --help says of them: headrace-torch alone runs them.
inline constexpr std::array<std::pair<const char*, const char*>, 1> kTorchCommands = {
    {{"train", "Train a model over pipeline stages"}}};

void add_train(CLI::App& program);

}  // namespace headrace
