// The program on a GPU; skipped where there is none.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/cli/tiny_run.h"

namespace headrace {
namespace {

using testing::HasSubstr;

class OnCuda : public TinyRun {
 protected:
  // The losses and norms that a run has written.
  std::vector<std::string> run(const std::string& name, const std::string& more) {
    const Outcome outcome =
        train("--run-dir " + name + " --set pipeline.device=cuda --steps 4 " + more);
    if (outcome.err.find("no CUDA device: ") != std::string::npos) return {};
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("# device: 1 × "));
    EXPECT_THAT(outcome.out, HasSubstr("# speed: "));
    return metrics(name);
  }
};

TEST_F(OnCuda, RanksThatShareAGpuAreAsOne) {
  const std::vector<std::string> one = run("one", "--ranks 1");
  if (one.empty()) GTEST_SKIP() << "there is no CUDA device";
  EXPECT_EQ(run("two", "--ranks 2 --set pipeline.ranks_per_device=2"), one);
  EXPECT_EQ(run("zb", "--ranks 2 --schedule zb-h1 --set pipeline.ranks_per_device=2"), one);
  EXPECT_EQ(run("bf16", "--ranks 2 --set pipeline.ranks_per_device=2 --set train.precision=bf16"),
            run("bf16_one", "--ranks 1 --set train.precision=bf16"));
}

}  // namespace
}  // namespace headrace
