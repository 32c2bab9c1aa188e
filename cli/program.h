// What both programs, headrace and headrace-torch, do with their command lines: one place where
// errors become text and exit codes.
#pragma once

#include <exception>
#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace headrace {

// Adds the commands, runs the one that the command line names, and gives the exit code: 1 after an
// error, 2 after a wrong command line or configuration, each told as one `error: …` on stderr, in
// the words that `text_of` finds for it.
int run_program(int argc,
                char** argv,
                const std::function<void(CLI::App&)>& add_commands,
                const std::function<std::string(const std::exception&)>& text_of);

}  // namespace headrace
