// The commands of the program: one file each. Each function adds its subcommand and what it does to
// the program.
#pragma once

namespace CLI {
class App;
}

namespace headrace {

void add_show(CLI::App& program);
void add_check(CLI::App& program);
void add_simulate(CLI::App& program);
void add_export(CLI::App& program);
void add_train(CLI::App& program);  // only where libtorch is built in

}  // namespace headrace
