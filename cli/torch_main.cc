// The program headrace-torch: the commands that need libtorch. headrace starts it.
#include "cli/commands.h"
#include "cli/program.h"
#include "headrace/tensor/exception_text.h"

int main(int argc, char** argv) {
  return headrace::run_program(argc, argv, headrace::add_train, headrace::text_of);
}
