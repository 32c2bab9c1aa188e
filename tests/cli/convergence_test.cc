// Asynchronous schedules beside the synchronous one on real text, after the same tokens. Each has
// the learning rate that suits it: PipeDream updates once a microbatch, 2BW with gradients that are
// a version old.
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "tests/cli/tiny_run.h"

namespace headrace {
namespace {

class Convergence : public TinyRun {
 protected:
  double validation_loss(const std::string& schedule, const std::string& rate) {
    const std::string root = HEADRACE_SOURCE_DIR;
    // The program takes its words apart at spaces: the path goes into the file.
    write("a.toml", replaced(read_file(root + "/configs/shakespeare.toml"), "data/shakespeare",
                             root + "/data/shakespeare"));
    Program program(options(
        "--ranks 2 --threads 1 --steps 100 --set optimizer.clip=0 --set model.tied=false --set "
        "evaluate.sequences=64 --set optimizer.warmup=20 --set evaluate.every=0 "
        "--overwrite --run-dir r --schedule " +
        schedule + " --set optimizer.learning_rate=" + rate));
    const Outcome& run = program.wait(200);  // half a minute on two cores of its own
    EXPECT_EQ(run.code, 0) << run.err;
    return nlohmann::json::parse(read("r/evaluations.jsonl")).at("validation_loss");
  }
};

TEST_F(Convergence, AsynchronousTrainingLearnsAsWellOnShakespeare) {
  if (!std::filesystem::exists(std::string(HEADRACE_SOURCE_DIR) + "/data/shakespeare"))
    GTEST_SKIP() << "data/shakespeare is not there; ./run setup fetches it";
  const double synchronous = validation_loss("1f1b", "2e-3");
  EXPECT_LT(synchronous, 2.7);  // 3.33 is what knowing the letters' frequencies gives
  EXPECT_LT(validation_loss("pipedream", "1e-3"), 1.02 * synchronous);
  EXPECT_LT(validation_loss("pipedream-2bw", "2e-3"), 1.02 * synchronous);
}

}  // namespace
}  // namespace headrace
