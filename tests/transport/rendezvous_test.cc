#include "headrace/transport/rendezvous.h"

#include <cstdlib>
#include <map>
#include <string>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "headrace/base/error.h"

namespace headrace {

namespace {

using testing::AllOf;
using testing::HasSubstr;

using Variables = std::map<std::string, std::string>;

// What rendezvous_from_environment() says when just these variables are set.
std::optional<Rendezvous> with(const Variables& variables) {
  for (const char* name : {"RANK",
                           "WORLD_SIZE",
                           "LOCAL_RANK",
                           "LOCAL_WORLD_SIZE",
                           "MASTER_ADDR",
                           "MASTER_PORT",
                           "HEADRACE_LISTEN_FD",
                           "TORCHELASTIC_RUN_ID",
                           "TORCHELASTIC_RESTART_COUNT",
                           "TORCHELASTIC_USE_AGENT_STORE",
                           "OMPI_COMM_WORLD_RANK",
                           "OMPI_COMM_WORLD_SIZE",
                           "OMPI_COMM_WORLD_LOCAL_RANK",
                           "OMPI_COMM_WORLD_LOCAL_SIZE",
                           "PMIX_NAMESPACE",
                           "OMPI_MCA_ess_base_jobid",
                           "OMPI_MCA_ess_base_nspace",
                           "SLURM_PROCID",
                           "SLURM_NTASKS",
                           "SLURM_LOCALID",
                           "SLURM_NNODES",
                           "SLURM_STEP_NUM_TASKS",
                           "SLURM_STEP_NUM_NODES",
                           "SLURM_STEP_TASKS_PER_NODE",
                           "SLURM_NODEID",
                           "SLURM_STEP_NODELIST",
                           "SLURM_JOB_NODELIST",
                           "SLURM_LAUNCH_NODE_IPADDR",
                           "SLURM_JOB_ID",
                           "SLURM_STEP_ID"})
    unsetenv(name);
  for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  return rendezvous_from_environment();
}

std::string refusal(const Variables& variables) {
  try {
    with(variables);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

const Variables kTorchrun = {{"RANK", "3"},          {"WORLD_SIZE", "4"},
                             {"LOCAL_RANK", "1"},    {"LOCAL_WORLD_SIZE", "2"},
                             {"MASTER_ADDR", "hub"}, {"MASTER_PORT", "29500"}};

Variables changed(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  return variables;
}

TEST(Rendezvous, NoneWithoutALauncher) {
  EXPECT_FALSE(with({}));
  EXPECT_FALSE(with({{"MASTER_ADDR", "hub"}, {"SLURM_NTASKS", "2"}, {"SLURM_JOB_ID", "1"}}));
}

TEST(Rendezvous, Torchrun) {
  Variables variables = kTorchrun;
  variables.insert({{"TORCHELASTIC_RUN_ID", "x"},
                    {"TORCHELASTIC_RESTART_COUNT", "2"},
                    {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
  const auto place = with(variables);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 3);
  EXPECT_EQ(place->size, 4);
  EXPECT_EQ(place->local_rank, 1);
  EXPECT_EQ(place->local_size, 2);
  EXPECT_EQ(place->address, "hub");
  EXPECT_EQ(place->port, 29500);
  EXPECT_TRUE(place->store_is_served);
  EXPECT_EQ(place->attempt, "2");
  EXPECT_EQ(place->launcher, "torchrun");
}

TEST(Rendezvous, ByHandWithoutLocalRank) {
  Variables variables = kTorchrun;
  variables.erase("LOCAL_RANK");
  variables.erase("LOCAL_WORLD_SIZE");
  const auto place = with(variables);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->local_rank, 3);
  EXPECT_EQ(place->launcher, "environment");
  EXPECT_FALSE(place->store_is_served);
}

TEST(Rendezvous, HalfSetIsRefused) {
  for (const char* missing : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
    EXPECT_THAT(refusal(changed(kTorchrun, missing, "")), HasSubstr(missing));
  EXPECT_THAT(refusal({{"OMPI_COMM_WORLD_RANK", "0"}}), HasSubstr("OMPI_COMM_WORLD_SIZE"));
  EXPECT_THAT(refusal({{"SLURM_PROCID", "0"}}), HasSubstr("SLURM_NTASKS"));
}

TEST(Rendezvous, NonsenseIsRefused) {
  for (const auto& [name, value] :
       std::initializer_list<std::pair<std::string, std::string>>{{"RANK", "one"},
                                                                  {"RANK", "-1"},
                                                                  {"RANK", "4"},
                                                                  {"RANK", " 1"},
                                                                  {"WORLD_SIZE", "4x"},
                                                                  {"WORLD_SIZE", "0"},
                                                                  {"WORLD_SIZE", "99999999999"},
                                                                  {"MASTER_PORT", "0"},
                                                                  {"MASTER_PORT", "70000"},
                                                                  {"LOCAL_RANK", "2"},
                                                                  {"HEADRACE_LISTEN_FD", "x"}}) {
    Variables variables = changed(kTorchrun, name, value);
    if (name == "HEADRACE_LISTEN_FD") variables["RANK"] = "0";
    EXPECT_THAT(refusal(variables), HasSubstr(name + "=" + value));
  }
}

TEST(Rendezvous, OpenMpi) {
  const Variables mpirun = {{"OMPI_COMM_WORLD_RANK", "1"},
                            {"OMPI_COMM_WORLD_SIZE", "2"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                            {"PMIX_NAMESPACE", "3498573825"}};
  const auto place = with(mpirun);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 1);
  EXPECT_EQ(place->address, "127.0.0.1");
  EXPECT_GE(place->port, 15000);
  EXPECT_LT(place->port, 30000);
  EXPECT_EQ(place->port, with(mpirun)->port);
  EXPECT_NE(place->port, with(changed(mpirun, "PMIX_NAMESPACE", "3498573826"))->port);
  EXPECT_THAT(refusal(changed(mpirun, "OMPI_COMM_WORLD_LOCAL_SIZE", "2x")),
              HasSubstr("OMPI_COMM_WORLD_LOCAL_SIZE=2x"));

  Variables hosts = mpirun;
  hosts["OMPI_COMM_WORLD_SIZE"] = "4";
  EXPECT_THAT(refusal(hosts), AllOf(HasSubstr("MASTER_ADDR"), HasSubstr("-x")));
  hosts["MASTER_ADDR"] = "hub";
  EXPECT_EQ(with(hosts)->address, "hub");
}

TEST(Rendezvous, Slurm) {
  const Variables srun = {{"SLURM_PROCID", "4"},
                          {"SLURM_NTASKS", "7"},
                          {"SLURM_LOCALID", "0"},
                          {"SLURM_JOB_ID", "77"},
                          {"SLURM_NODEID", "2"},
                          {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"},
                          {"SLURM_JOB_NODELIST", "gpu[07-09,12]"},
                          {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.9"}};
  const auto place = with(srun);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 4);
  EXPECT_EQ(place->size, 7);
  EXPECT_EQ(place->local_size, 2);
  EXPECT_EQ(place->address, "gpu07");
  EXPECT_EQ(with(changed(srun, "SLURM_NODEID", "3"))->local_size, 1);
  EXPECT_EQ(with(changed(srun, "SLURM_JOB_NODELIST", ""))->address, "10.0.0.9");
  EXPECT_EQ(with(changed(srun, "SLURM_NNODES", "1"))->address, "127.0.0.1");
  EXPECT_EQ(with(changed(srun, "MASTER_PORT", "4242"))->port, 4242);
  EXPECT_NE(place->port, with(changed(srun, "SLURM_JOB_ID", "78"))->port);
}

TEST(Rendezvous, FirstHostOfAList) {
  EXPECT_EQ(first_host("n1"), "n1");
  EXPECT_EQ(first_host("n1,n2"), "n1");
  EXPECT_EQ(first_host("gpu[007-009],cpu1"), "gpu007");
  EXPECT_EQ(first_host("r[2,4]n[11-13]-ib"), "r2n11-ib");
  EXPECT_THROW(first_host("n[1-2"), UsageError);
}

TEST(Rendezvous, ListensOnAFreePort) {
  const Listening first = listen_on_free_port();
  const Listening second = listen_on_free_port();
  EXPECT_NE(first.port, second.port);
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(first.port));
  EXPECT_EQ(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);

  Variables variables = kTorchrun;
  variables["RANK"] = "0";
  variables["LOCAL_RANK"] = "0";
  variables["HEADRACE_LISTEN_FD"] = std::to_string(first.fd);
  EXPECT_EQ(with(variables)->listen_fd, first.fd);
  EXPECT_EQ(with(variables)->launcher, "headrace");
  variables["HEADRACE_LISTEN_FD"] = std::to_string(client);
  EXPECT_THAT(refusal(variables), HasSubstr("not a listening socket"));
  for (const int fd : {first.fd, second.fd, client}) close(fd);
}

}  // namespace

}  // namespace headrace
