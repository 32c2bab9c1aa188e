// `headrace train` under other people's launchers, or inside their allocations.
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/cli/tiny_run.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;

class TrainLaunchers : public TinyRun {
 protected:
  // What two processes of a launcher write is one run, the same as our own launcher's.
  void expect_one_run(const std::vector<std::string>& command) {
    if (std::system(("command -v " + command[0] + " >/dev/null").c_str()) != 0)
      GTEST_SKIP() << "no " << command[0];
    ProgramOptions run = options("--run-dir r");
    run.command = command;
    const Outcome outcome = Program(run).wait();
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("# pipeline: 2 ranks"));
    EXPECT_EQ(train("--ranks 2 --run-dir own").code, 0);
    EXPECT_EQ(metrics("r"), metrics("own"));
  }
};

TEST_F(TrainLaunchers, RanksStartedByHand) {
  const int port = free_port();
  Program zero(rank(0, 2, port, "--run-dir hand"));
  Program one(rank(1, 2, port, "--run-dir hand"));
  EXPECT_EQ(zero.wait().code, 0) << zero.err();
  EXPECT_EQ(one.wait().code, 0) << one.err();
  EXPECT_EQ(zero.err() + one.err() + one.out(), "");
  EXPECT_EQ(train("--ranks 2 --run-dir own").code, 0);
  EXPECT_EQ(metrics("hand"), metrics("own"));
}

TEST_F(TrainLaunchers, RanksStartedByTorchrun) {
  const char* python = std::getenv("HEADRACE_PYTHON");
  const std::filesystem::path folder =
      python != nullptr ? std::filesystem::path(python).parent_path()
                        : std::filesystem::path(HEADRACE_SOURCE_DIR) / ".venv/bin";
  if (!std::filesystem::exists(folder / "torchrun"))
    GTEST_SKIP() << "no " << folder / "torchrun"
                 << "; set HEADRACE_PYTHON to a Python that has torch";
  ProgramOptions run = options("--run-dir r");
  run.command = {folder / "torchrun", "--no-python", "--standalone", "--nproc-per-node=2"};
  const Outcome outcome = Program(run).wait(100);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(train("--ranks 2 --run-dir own").code, 0);
  EXPECT_EQ(metrics("r"), metrics("own"));
}

TEST_F(TrainLaunchers, RanksStartedByMpirun) {
  expect_one_run({"mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "-np", "2"});
}

TEST_F(TrainLaunchers, RanksStartedByHydra) {
  expect_one_run({"mpiexec.hydra", "-np", "2"});
}

// Each rank then has a shell of its own for a parent.
TEST_F(TrainLaunchers, RanksStartedByHydraThroughAScript) {
  expect_one_run({"mpiexec.hydra", "-np", "2", "sh", "-c", "\"$@\"; exit $?", "sh"});
}

TEST_F(TrainLaunchers, MoreProcessesThanRanksNamesWhoStartedThem) {
  const Outcome run = Program(options("--ranks 3", {{"PMI_RANK", "0"},
                                                    {"PMI_SIZE", "2"},
                                                    {"MPI_LOCALRANKID", "0"},
                                                    {"MPI_LOCALNRANKS", "2"}}))
                          .wait();
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err,
              AllOf(HasSubstr("2 processes were started (mpiexec: PMI_RANK=0, PMI_SIZE=2), but "
                              "pipeline.ranks is 3"),
                    HasSubstr("--launcher local")));
}

TEST_F(TrainLaunchers, AnUnknownLauncherIsRefused) {
  const Outcome run = Program(options("--ranks 2 --run-dir r", {{"PMIX_RANK", "1"}})).wait();
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err, AllOf(HasSubstr("PMIX_RANK=1"), HasSubstr("--launcher local")));
  EXPECT_FALSE(std::filesystem::exists(folder().path("r")));
}

// sbatch's script, and what it starts without srun.
const std::map<std::string, std::string> kBatch = {{"SLURM_PROCID", "0"},  {"SLURM_NTASKS", "2"},
                                                   {"SLURM_LOCALID", "0"}, {"SLURM_JOB_ID", "7"},
                                                   {"SLURM_NODEID", "0"},  {"SLURM_GTIDS", "0"}};

TEST_F(TrainLaunchers, InABatchScriptItStartsTheRanks) {
  const Outcome run = Program(options("--ranks 2 --run-dir r", kBatch)).wait();
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(metrics("r"), SizeIs(3));
}

// Two tasks are said to be there, and only this one is.
TEST_F(TrainLaunchers, LocalIsAWayOutOfAStep) {
  std::map<std::string, std::string> step = kBatch;
  step.insert({{"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_STEP_NUM_NODES", "1"}});
  step["SLURM_GTIDS"] = "0,1";
  const Outcome refused =
      Program(options("--ranks 2 --set pipeline.start_limit=1 --set pipeline.step_limit=60", step))
          .wait();
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("rank 1 of 2 has not joined"),
                                 HasSubstr("srun: SLURM_PROCID=0, SLURM_STEP_NUM_TASKS=2"),
                                 HasSubstr("--launcher local")));
  const Outcome run = Program(options("--ranks 2 --launcher local --run-dir r", step)).wait();
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(metrics("r"), SizeIs(3));
}

TEST_F(TrainLaunchers, NoneIsOneRank) {
  const Outcome run = train("--launcher none --run-dir r");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("# pipeline: 1 ranks"));
  EXPECT_THAT(metrics("r"), SizeIs(3));
  const Outcome two = train("--launcher none --ranks 2");
  EXPECT_EQ(two.code, 2);
  EXPECT_THAT(two.err, HasSubstr("1 process was started (--launcher none)"));
}

TEST_F(TrainLaunchers, AnotherThanTheOneAskedForIsRefused) {
  const Outcome run = train("--launcher slurm");
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err, AllOf(HasSubstr("SLURM_PROCID is not set"), HasSubstr("--launcher local")));
  const Outcome mistyped = train("--launcher slrum");
  EXPECT_EQ(mistyped.code, 2);
  EXPECT_THAT(mistyped.err, AllOf(HasSubstr("slrum"), HasSubstr("torchrun")));
}

TEST_F(TrainLaunchers, AnInterfaceThatIsNotThereIsNamed) {
  const std::map<std::string, std::string> bond = {{"GLOO_SOCKET_IFNAME", "bond1"}};
  const Outcome run = Program(options("--ranks 2", bond)).wait();
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err, AllOf(HasSubstr("GLOO_SOCKET_IFNAME=bond1"), HasSubstr("lo (127.0.0.1)")));
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(Program(options("--ranks 2", {{"GLOO_SOCKET_IFNAME", "lo"}})).wait().code, 0);
}

}  // namespace
}  // namespace headrace
