// What real launchers set (Open MPI 4.1, MPICH 4.0, Slurm 22.05), with the numbers shortened.
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include "headrace/transport/rendezvous/interfaces.h"
#include "tests/transport/rendezvous/variables.h"

namespace headrace {

namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const Variables kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "1"},
                            {"OMPI_COMM_WORLD_SIZE", "2"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                            {"PMIX_RANK", "1"},
                            {"PMIX_NAMESPACE", "3498573825"}};

TEST(Launchers, OpenMpi) {
  const auto place = with(kOpenMpi);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 1);
  EXPECT_EQ(place->launcher, "mpirun");
  EXPECT_EQ(place->said, "OMPI_COMM_WORLD_RANK=1, OMPI_COMM_WORLD_SIZE=2");
  EXPECT_EQ(place->address, "127.0.0.1");
  EXPECT_GE(place->port, 15000);
  EXPECT_LT(place->port, 30000);
  EXPECT_EQ(place->port, with(kOpenMpi)->port);
  EXPECT_NE(place->port, with(changed(kOpenMpi, "PMIX_NAMESPACE", "3498573826"))->port);
  EXPECT_THAT(refusal(changed(kOpenMpi, "OMPI_COMM_WORLD_LOCAL_SIZE", "2x")),
              HasSubstr("OMPI_COMM_WORLD_LOCAL_SIZE=2x"));

  Variables hosts = changed(kOpenMpi, "OMPI_COMM_WORLD_SIZE", "4");
  EXPECT_THAT(refusal(hosts), HasSubstr("add -x MASTER_ADDR=<host of rank 0> to mpirun"));
  hosts["MASTER_ADDR"] = "hub";
  EXPECT_EQ(with(hosts)->address, "hub");
}

// MPICH and Intel MPI.
const Variables kHydra = {{"PMI_RANK", "1"},        {"PMI_SIZE", "2"},
                          {"PMI_FD", "8"},          {"MPI_LOCALRANKID", "1"},
                          {"MPI_LOCALNRANKS", "2"}, {"HYDI_CONTROL_FD", "7"}};

TEST(Launchers, Hydra) {
  const auto place = with(kHydra);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 1);
  EXPECT_EQ(place->size, 2);
  EXPECT_EQ(place->local_rank, 1);
  EXPECT_EQ(place->local_size, 2);
  EXPECT_EQ(place->address, "127.0.0.1");
  EXPECT_EQ(place->launcher, "mpiexec");
  EXPECT_EQ(place->port, with(changed(kHydra, "PMI_RANK", "0"))->port);
  EXPECT_THAT(refusal(changed(kHydra, "PMI_RANK", "2")), HasSubstr("PMI_RANK=2"));
  EXPECT_THAT(refusal(changed(kHydra, "PMI_SIZE", "")), HasSubstr("PMI_SIZE is not set"));
  EXPECT_EQ(with({{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}})->size, 1);

  const Variables hosts = changed(kHydra, "PMI_SIZE", "4");
  EXPECT_THAT(refusal(hosts), HasSubstr("add -genv MASTER_ADDR <host of rank 0> to mpiexec"));
  const Variables address = changed(hosts, "MASTER_ADDR", "hub");
  EXPECT_THAT(refusal(address), HasSubstr("add -genv MASTER_PORT <a free port"));
  EXPECT_EQ(with(changed(address, "MASTER_PORT", "4242"))->local_size, 2);
}

TEST(Launchers, PmiWithOtherLocalNames) {
  const Variables cray = {{"PMI_RANK", "1"},       {"PMI_SIZE", "2"},      {"PMI_LOCAL_RANK", "0"},
                          {"PMI_LOCAL_SIZE", "1"}, {"MASTER_ADDR", "hub"}, {"MASTER_PORT", "4242"}};
  EXPECT_EQ(with(cray)->local_size, 1);
  EXPECT_EQ(with(cray)->local_rank, 0);
  // No word of hosts is no word that there is one.
  EXPECT_THAT(refusal({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}), HasSubstr("MASTER_ADDR is not set"));
}

// Each process would be a run of its own otherwise.
TEST(Launchers, AnUnknownOneIsRefused) {
  for (const char* name : {"PMIX_RANK", "PMI_ID", "PALS_RANKID", "FLUX_TASK_RANK"})
    EXPECT_THAT(refusal({{name, "1"}}), AllOf(HasSubstr(std::string(name) + "=1"),
                                              HasSubstr("a launcher has numbered this process")));
  EXPECT_THAT(refusal({{"PMI_ID", "0"}, {"PMI_PORT", "vm:3"}, {"MPI_LOCALNRANKS", "2"}}),
              HasSubstr("PMI_ID=0"));
}

const Variables kSrun = {{"SLURM_PROCID", "4"},
                         {"SLURM_NTASKS", "7"},
                         {"SLURM_STEP_NUM_TASKS", "7"},
                         {"SLURM_STEP_ID", "0"},
                         {"SLURM_LOCALID", "0"},
                         {"SLURM_JOB_ID", "77"},
                         {"SLURM_NODEID", "2"},
                         {"SLURM_GTIDS", "4,5"},
                         {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"},
                         {"SLURM_JOB_NODELIST", "gpu[07-09,12]"},
                         {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.9"}};

TEST(Launchers, Slurm) {
  const auto place = with(kSrun);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 4);
  EXPECT_EQ(place->size, 7);
  EXPECT_EQ(place->local_size, 2);
  EXPECT_EQ(place->address, "gpu07");
  EXPECT_EQ(place->said, "SLURM_PROCID=4, SLURM_STEP_NUM_TASKS=7");
  EXPECT_EQ(with(changed(changed(kSrun, "SLURM_NODEID", "3"), "SLURM_GTIDS", "6"))->local_size, 1);
  EXPECT_EQ(with(changed(kSrun, "SLURM_JOB_NODELIST", ""))->address, "10.0.0.9");
  EXPECT_EQ(with(changed(kSrun, "SLURM_NNODES", "1"))->address, "127.0.0.1");
  EXPECT_EQ(with(changed(kSrun, "MASTER_PORT", "4242"))->port, 4242);
  EXPECT_NE(place->port, with(changed(kSrun, "SLURM_JOB_ID", "78"))->port);
  // Of an allocation of 8, a step may have 7.
  EXPECT_EQ(with(changed(kSrun, "SLURM_NTASKS", "8"))->size, 7);
}

// sbatch -n 2, and the script starts the program without srun.
const Variables kBatch = {{"SLURM_PROCID", "0"},  {"SLURM_NTASKS", "2"},
                          {"SLURM_LOCALID", "0"}, {"SLURM_JOB_ID", "77"},
                          {"SLURM_NODEID", "0"},  {"SLURM_GTIDS", "0"},
                          {"SLURM_NNODES", "1"},  {"SLURM_TASKS_PER_NODE", "2"}};

TEST(Launchers, ABatchScriptIsNoRank) {
  EXPECT_FALSE(with(kBatch));
  EXPECT_THAT(refusal(kBatch, Launcher::Slurm), HasSubstr("batch script"));
  // Submitted from a shell in a step of two tasks, whose variables come along.
  Variables inner = kBatch;
  inner.insert({{"SLURM_STEP_ID", "0"},
                {"SLURM_STEP_NUM_TASKS", "2"},
                {"SLURM_STEP_NUM_NODES", "1"},
                {"SLURM_STEP_TASKS_PER_NODE", "2"}});
  EXPECT_FALSE(with(inner));
}

// srun --pty bash.
TEST(Launchers, AStepOfOneTaskIsNoRank) {
  Variables shell = kBatch;
  shell.insert({{"SLURM_STEP_ID", "0"},
                {"SLURM_STEP_NUM_TASKS", "1"},
                {"SLURM_STEP_NUM_NODES", "1"},
                {"SLURM_STEP_TASKS_PER_NODE", "1"}});
  EXPECT_FALSE(with(shell));
  ASSERT_TRUE(with(shell, Launcher::Slurm));
  EXPECT_EQ(with(shell, Launcher::Slurm)->size, 1);
  // Slurm's own PMI says nothing else.
  Variables pmi = shell;
  pmi.insert({{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}, {"PMI_JOBID", "77.0"}});
  EXPECT_FALSE(with(pmi));
  Variables pmix = shell;
  pmix.insert({{"PMIX_RANK", "0"}, {"PMIX_NAMESPACE", "slurm.pmix.77.0"}});
  EXPECT_FALSE(with(pmix));
}

// srun -n 2 --pty bash: whether the second task is there cannot be seen from a shell of the first.
TEST(Launchers, AShellInAStepOfSeveralTasksIsAsked) {
  Variables shell = {{"SLURM_PROCID", "0"},         {"SLURM_STEP_NUM_TASKS", "2"},
                     {"SLURM_STEP_NUM_NODES", "1"}, {"SLURM_JOB_ID", "77"},
                     {"SLURM_STEP_ID", "0"},        {"SLURM_PTY_PORT", "4000"},
                     {"SLURM_TASK_PID", "1"}};
  EXPECT_THAT(refusal(shell), AllOf(HasSubstr("SLURM_STEP_NUM_TASKS=2"), HasSubstr("srun --pty")));
  EXPECT_EQ(with(shell, Launcher::Slurm)->size, 2);
  shell["SLURM_TASK_PID"] = std::to_string(getpid());  // the task itself
  EXPECT_EQ(with(shell)->size, 2);
}

// In a batch script of Slurm: Hydra starts its own processes by a step of one task a host.
TEST(Launchers, MpiInsideSlurm) {
  Variables both = kHydra;
  both.insert(kBatch.begin(), kBatch.end());
  both.insert({{"SLURM_STEP_ID", "1"},
               {"SLURM_STEP_NUM_TASKS", "1"},
               {"SLURM_STEP_NUM_NODES", "1"},
               {"SLURM_STEP_TASKS_PER_NODE", "1"}});
  EXPECT_EQ(with(both)->launcher, "mpiexec");
  EXPECT_EQ(with(both)->size, 2);
  // srun --mpi=pmi2: the same from both, and Slurm also names the hosts.
  Variables srun = kSrun;
  srun.insert({{"PMI_RANK", "4"}, {"PMI_SIZE", "7"}, {"PMI_JOBID", "77.0"}});
  EXPECT_EQ(with(srun)->launcher, "srun");
}

TEST(Launchers, OnlyTheOneAskedFor) {
  Variables both = kHydra;
  both.insert(kSrun.begin(), kSrun.end());
  EXPECT_EQ(with(both, Launcher::Slurm)->size, 7);
  EXPECT_EQ(with(both, Launcher::Mpi)->size, 2);
  EXPECT_THAT(refusal(both, Launcher::Torchrun), HasSubstr("RANK and WORLD_SIZE are not set"));
  EXPECT_THAT(refusal({}, Launcher::Mpi), HasSubstr("PMI_RANK"));
  EXPECT_THAT(refusal({}, Launcher::Slurm), HasSubstr("SLURM_PROCID is not set"));
}

// Scripts export the same for all processes, and the launcher numbers them.
TEST(Launchers, AnExportedWorldSizeDoesNotHideTheRank) {
  const auto place = with(changed(changed(kSrun, "WORLD_SIZE", "7"), "MASTER_ADDR", "hub"));
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 4);
  EXPECT_EQ(place->address, "hub");
}

std::string interface_fault(const std::string& value) {
  set_only({{"GLOO_SOCKET_IFNAME", value}});
  try {
    chosen_interfaces();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Interfaces, AnUnknownOneIsRefused) {
  EXPECT_THAT(interface_fault("bond1"),
              AllOf(HasSubstr("GLOO_SOCKET_IFNAME=bond1: there is no network interface 'bond1' on "
                              "host "),
                    HasSubstr("lo (127.0.0.1)")));
  EXPECT_THAT(interface_fault("lo,bond1,bond2"),
              AllOf(HasSubstr("'bond1'"), HasSubstr("'bond2'"), Not(HasSubstr("interface 'lo'"))));
}

// A new network of one's own has a loopback interface that nobody has switched on.
TEST(Interfaces, OneThatIsDownIsRefused) {
  std::string fault;
  bool allowed = false;
  std::thread([&] {  // the only one that moves to the new network
    allowed = unshare(CLONE_NEWNET) == 0;
    if (allowed) fault = interface_fault("lo");
  })
      .join();
  if (!allowed) GTEST_SKIP() << "only root may make a network";
  EXPECT_THAT(fault, AllOf(HasSubstr("GLOO_SOCKET_IFNAME=lo: the network interface lo is down"),
                           HasSubstr("have an address: none")));
}

TEST(Interfaces, AreLookedUp) {
  set_only({{"GLOO_SOCKET_IFNAME", "lo"}});
  ASSERT_EQ(chosen_interfaces().size(), 1u);
  EXPECT_EQ(chosen_interfaces()[0].address, "127.0.0.1");
  set_only({{"GLOO_SOCKET_IFNAME", ""}});
  EXPECT_TRUE(chosen_interfaces().empty());
}

}  // namespace

}  // namespace headrace
