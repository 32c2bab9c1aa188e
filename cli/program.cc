#include "cli/program.h"

#include <exception>
#include <functional>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "headrace/base/available_memory.h"
#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

std::vector<std::string> command_names(const CLI::App& program) {
  std::vector<std::string> names;
  for (const CLI::App* command : program.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

// CLI11 would call a mistyped command an unexpected argument.
void check_command(const CLI::App& program, const std::string& word) {
  if (word.starts_with('-')) return;
  const std::vector<std::string> names = command_names(program);
  for (const std::string& name : names) {
    if (name == word) return;
  }
  const std::string near = nearest(word, names);
  throw UsageError(cat("no command is called '", word, "'; ",
                       near.empty() ? cat("commands are ", join_text(names, ", "))
                                    : cat("did you mean '", near, "'?")));
}

// "did you mean --ranks?" for the flags of the command at hand.
std::string suggestion(const CLI::App& program) {
  for (const CLI::App* command : program.get_subcommands()) {
    std::vector<std::string> flags;
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
    }
    for (const std::string& word : program.remaining(true)) {
      const std::string near = nearest(word.substr(0, word.find('=')), flags);
      if (word.starts_with("--") && !near.empty()) return cat("; did you mean ", near, "?");
    }
  }
  return "";
}

int run(int argc, char** argv, const std::function<void(CLI::App&)>& add_commands) {
  CLI::App program("Pipeline-parallel training: schedules proved, simulated, drawn and run.",
                   "headrace");
  program.set_version_flag("--version", std::string("headrace ") + HEADRACE_VERSION);
  program.require_subcommand(1);
  add_commands(program);
  try {
    if (argc > 1) check_command(program, argv[1]);
    program.parse(argc, argv);
  } catch (const CLI::RuntimeError& error) {
    return error.get_exit_code();  // a command has said all there is to say
  } catch (const CLI::Success& success) {
    return program.exit(success);  // --help, --version
  } catch (const CLI::ParseError& error) {
    throw UsageError(cat(error.what(), suggestion(program), "\nsee headrace --help"));
  }
  return 0;
}

}  // namespace

int run_program(int argc,
                char** argv,
                const std::function<void(CLI::App&)>& add_commands,
                const std::function<std::string(const std::exception&)>& text_of) {
  try {
    // Whatever names nothing better.
    const int code = naming_memory(cat("running headrace ", argc > 1 ? argv[1] : ""),
                                   [&] { return run(argc, argv, add_commands); });
    check(static_cast<bool>(std::cout.flush()), "cannot write the output; is the disk full?");
    return code;
  } catch (const UsageError& error) {
    std::cerr << "error: " << text_of(error) << "\n";
    return kUsage;
  } catch (const std::exception& error) {
    std::cerr << "error: " << text_of(error) << "\n";
    return kFailed;
  }
}

}  // namespace headrace
