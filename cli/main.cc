// The program headrace. It links no libtorch, which takes a quarter of a second to load and more
// with CUDA: the commands that need it are run by headrace-torch, which lies beside it and takes
// this process over.
#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string_view>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/program.h"

namespace headrace {
namespace {

#ifdef HEADRACE_TORCH
// Returns only if that fails.
int hand_over(char** argv) {
  const std::filesystem::path other =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "headrace-torch";
  ::execv(other.c_str(), argv);
  std::cerr << "error: cannot start " << other.string() << ": " << std::strerror(errno)
            << "; it is installed beside headrace\n";
  return 1;
}
#endif

void add_commands(CLI::App& program) {
  add_show(program);
  add_check(program);
  add_simulate(program);
  add_export(program);
  add_checkpoint(program);
#ifdef HEADRACE_TORCH
  for (const auto& [name, about] : kTorchCommands)
    program.add_subcommand(name, about);  // for --help and for mistyped names
#endif
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
#ifdef HEADRACE_TORCH
  for (const auto& [name, about] : headrace::kTorchCommands)
    if (argc > 1 && name == std::string_view(argv[1])) return headrace::hand_over(argv);
#endif
  return headrace::run_program(argc, argv, headrace::add_commands,
                               [](const std::exception& error) { return error.what(); });
}
