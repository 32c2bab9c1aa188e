#include "headrace/transport/rendezvous/rendezvous.h"

#include <string>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/transport/rendezvous/variables.h"

namespace headrace {

namespace {

using testing::HasSubstr;

const Variables kTorchrun = {{"RANK", "3"},          {"WORLD_SIZE", "4"},
                             {"LOCAL_RANK", "1"},    {"LOCAL_WORLD_SIZE", "2"},
                             {"MASTER_ADDR", "hub"}, {"MASTER_PORT", "29500"}};

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
  EXPECT_TRUE(place->is_restart);
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
  // Started from within torchrun's process, whose variables are not about this one.
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  EXPECT_FALSE(with(variables)->store_is_served);
  variables["HEADRACE_LISTEN_FD"] = std::to_string(client);
  EXPECT_THAT(refusal(variables), HasSubstr("not a listening socket"));
  for (const int fd : {first.fd, second.fd, client}) close(fd);
}

}  // namespace

}  // namespace headrace
