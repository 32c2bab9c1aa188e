// Ranks killed at moments that nobody has chosen, again and again: in a forward, a send, a reduction, an update, while a
// checkpoint is written, in an evaluation, while ranks are started anew. The run goes on by itself, and is in the
// end, to the bit, the one that nothing has happened to. HEADRACE_CRASHES says how many kills (10).
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/cli/program.h"
#include "tests/cli/tiny_run.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// What the rank was doing, by the launcher's line about its end.
std::string phase_of(const std::string& line) {
  const std::vector<std::pair<std::string, std::string>> words = {
      {"while starting", "starting"},
      {"while loading", "loading"},
      {"evaluat", "evaluation"},
      {"while saving", "last checkpoint"},
      {"while ending", "ending"},
      {"SEND", "send"},
      {"RECV", "receive"},
      {"REDUCE", "reduction, update, records"}};
  for (const auto& [word, phase] : words)
    if (line.find(word) != std::string::npos) return phase;
  const std::size_t during = line.find("during ");
  if (during == std::string::npos) return "other";
  const std::size_t letter = line.find_first_of("FBIW", during);
  return letter == std::string::npos ? "other" : line[letter] == 'F' ? "forward" : "backward";
}

class TrainCrashes : public TinyRun {
 protected:
  ProgramOptions how(const std::string& words) const {
    ProgramOptions wanted = options("");
    wanted.arguments = words;
    return wanted;
  }
  static bool failed(const Program& program) {
    return program.err().find("error: ") != std::string::npos;
  }
};

TEST_F(TrainCrashes, AnyRankAtAnyMoment) {
  const char* wanted = std::getenv("HEADRACE_CRASHES");
  const int crashes = wanted == nullptr ? 10 : std::atoi(wanted);
  const unsigned seed = std::random_device()();
  std::mt19937 random(seed);
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  const std::size_t steps = 60 * static_cast<std::size_t>(crashes);
  const std::string more =
      " --ranks 2 --steps " + std::to_string(steps) +
      " --set pipeline.replicas=2 --set evaluate.every=7 --set checkpoint.every=3"
      " --set model.dropout=0.1 --set train.verify_every=50";
  ASSERT_EQ(Program(how("train a.toml --run-dir whole" + more)).wait(60 + 2.0 * crashes).code, 0);

  std::map<std::string, int> phases;
  int kills = 0;
  std::string words = "train a.toml --run-dir r --max-restarts 100000" + more;
  for (int lives = 0; lives < 1 + crashes; ++lives) {
    Program program(how(words));
    while (kills < crashes && metrics("r").size() < steps) {
      // One in five while the ranks are being started, the others while they train.
      const std::string before = read("r/metrics.jsonl");
      if (random() % 5 == 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(random() % 1500));
      else if (eventually([&] { return read("r/metrics.jsonl") != before || failed(program); }))
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 300000));
      if (failed(program)) break;
      const auto ranks = program.ranks();
      if (ranks.empty()) continue;
      const auto victim =
          std::next(ranks.begin(), static_cast<std::ptrdiff_t>(random() % ranks.size()));
      if (::kill(victim->second, SIGKILL) == 0) ++kills;
    }
    const Outcome& outcome = program.wait(120 + 2.0 * crashes);
    for (const std::string& line : lines_of(outcome.err)) {
      // A rank that died with the one that was killed may be what the launcher saw first.
      if (line.find("was killed by signal 9") != std::string::npos) ++phases[phase_of(line)];
    }
    if (outcome.code == 0) break;
    // The same rank was killed at the same step twice, with nothing saved in between: the user would go on.
    ASSERT_THAT(outcome.err, HasSubstr("it failed there before and has saved nothing since"));
    const bool saved =
        fs::exists(folder().path("r/checkpoints")) && !fs::is_empty(folder().path("r/checkpoints"));
    words = saved ? "train --resume r --max-restarts 100000"
                  : "train a.toml --run-dir r --overwrite --max-restarts 100000" + more;
  }
  EXPECT_EQ(metrics("r"), metrics("whole"));
  EXPECT_EQ(read("r/evaluations.jsonl"), read("whole/evaluations.jsonl"));
  const std::string number = std::to_string(steps);
  const std::string last = "step-" + std::string(8 - number.size(), '0') + number;
  const Outcome same =
      Program(how("checkpoint diff r/checkpoints/" + last + " whole/checkpoints/" + last)).wait();
  EXPECT_EQ(same.code, 0) << same.out << same.err;
  std::cout << kills << " kills";
  for (const auto& [phase, times] : phases) std::cout << ", " << phase << " " << times;
  std::cout << std::endl;
}

}  // namespace
}  // namespace headrace
