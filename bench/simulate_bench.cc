// How fast schedules are generated, checked and simulated, and the simulator beside PyTorch's in
// the same run.
//
//   HEADRACE_PYTHON=.venv/bin/python build/dev/bench/simulate_bench [RANKS MICROBATCHES]
//
// Times are of one core. PyTorch's simulator counts steps, without durations or memory; it gets the
// same lowered 1F1B, at a size that it ends in seconds.
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>

#include <sys/resource.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/base/file.h"
#include "headrace/base/text.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/lower.h"
#include "headrace/schedule/schedule.h"
#include "headrace/simulate/simulate.h"

namespace headrace {
namespace {

template <class Work>
double seconds_of(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::size_t actions_of(const Schedule& schedule) {
  std::size_t actions = 0;
  for (const auto& list : schedule.ranks) actions += list.size();
  return actions;
}

void line(const char* what, double seconds, std::size_t actions) {
  std::cout << what << fixed_text(seconds, 2) << " s, "
            << fixed_text(static_cast<double>(actions) / seconds / 1e6, 1)
            << " million actions/s\n";
}

void large(int ranks, int microbatches) {
  std::cout << "1f1b, ranks " << ranks << ", microbatches " << microbatches << "\n";
  Schedule schedule;
  const double generated = seconds_of([&] { schedule = one_f_one_b(ranks, microbatches); });
  const std::size_t actions = actions_of(schedule);
  line("  generated            ", generated, actions);
  const double validated = seconds_of([&] { require_valid(schedule); });
  line("  validated            ", validated, actions);
  const double totals = seconds_of([&] { simulate_totals(schedule, {}); });
  line("  simulated, totals    ", totals, actions);
  const double simulated = seconds_of([&] { simulate(schedule, {}); });
  line("  simulated, timeline  ", simulated, actions);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::cout << "  generated, validated and simulated: "
            << fixed_text(generated + validated + simulated, 2) << " s, peak memory "
            << bytes_text(static_cast<double>(usage.ru_maxrss) * 1024) << "\n";
}

void beside_torch(const std::string& python) {
  const int ranks = 16;
  const int microbatches = 512;
  // Their simulator takes a receive only once it is sent.
  const Schedule schedule = lower(one_f_one_b(ranks, microbatches), Receives::Paired);
  const std::string path =
      (std::filesystem::temp_directory_path() / cat("simulate_bench_", getpid(), ".csv")).string();
  write_file(path, to_csv(schedule));
  const std::string command =
      cat(python, " ", HEADRACE_SOURCE_DIR, "/bench/peers/torch_simulator.py ", ranks, " ",
          microbatches, " ", path);
  std::FILE* pipe = popen(command.c_str(), "r");
  double theirs = 0;
  const bool read = pipe != nullptr && std::fscanf(pipe, "%lf", &theirs) == 1;
  if (pipe != nullptr) pclose(pipe);
  std::filesystem::remove(path);
  check(read, "cannot run ", command);
  const int rounds = 100;
  const double seconds = seconds_of([&] {
    for (int i = 0; i < rounds; ++i) simulate(schedule, {});
  });
  const double ours = static_cast<double>(actions_of(schedule)) * rounds / seconds;
  std::cout << "lowered 1f1b, ranks " << ranks << ", microbatches " << microbatches
            << ", timeline kept\n  headrace " << fixed_text(ours / 1e6, 1)
            << " million actions/s, torch.distributed.pipelining " << fixed_text(theirs / 1e6, 3)
            << " million actions/s: " << fixed_text(ours / theirs, 0) << " times\n";
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
  try {
    headrace::large(argc > 2 ? std::atoi(argv[1]) : 1024, argc > 2 ? std::atoi(argv[2]) : 8192);
    const char* python = std::getenv("HEADRACE_PYTHON");
    if (python != nullptr) {
      headrace::beside_torch(python);
    } else {
      std::cout << "set HEADRACE_PYTHON to a Python with torch to compare with its simulator\n";
    }
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
