#include "headrace/train/devices.h"

#include <functional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/train/utilisation.h"
#include "headrace/transport/local.h"

namespace headrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const CudaDevices kNone = {0, "this libtorch is a CPU build"};
const CudaDevices kTwo = {2, ""};

PipelineConfig wish(const std::string& device, int ranks_per_device = 1) {
  PipelineConfig pipeline;
  pipeline.device = device;
  pipeline.ranks_per_device = ranks_per_device;
  return pipeline;
}

std::string refusal(const std::function<void()>& choose) {
  try {
    choose();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ChooseDevice, AutoTakesCudaWhereEachRankOfTheHostHasADevice) {
  EXPECT_EQ(choose_device(wish("auto"), {1, 2}, kTwo).device, torch::Device(torch::kCUDA, 1));
  const DeviceChoice too_few = choose_device(wish("auto"), {1, 3}, kTwo);
  EXPECT_TRUE(too_few.device.is_cpu());
  EXPECT_EQ(too_few.why_cpu, "2 CUDA devices for 3 ranks of this host");
  EXPECT_EQ(choose_device(wish("auto"), {0, 1}, kNone).why_cpu,
            "no CUDA device: this libtorch is a CPU build");
}

TEST(ChooseDevice, TheCpuIsTakenWhereItIsAskedFor) {
  EXPECT_TRUE(choose_device(wish("cpu"), {0, 1}, kTwo).device.is_cpu());
}

TEST(ChooseDevice, NeighboursShareADeviceWhereTheyMay) {
  std::vector<int> devices;
  for (int rank = 0; rank < 5; ++rank)
    devices.push_back(choose_device(wish("cuda", 3), {rank, 5}, kTwo).device.index());
  EXPECT_THAT(devices, testing::ElementsAre(0, 0, 0, 1, 1));
}

TEST(ChooseDevice, WhatIsMissingIsSaidWithTheSettingThatWouldDo) {
  const auto refused = [](int each, const PlaceOnHost& place, const CudaDevices& found) {
    return refusal(
        [&] { require_cuda(wish("cuda", each), choose_device(wish("cuda", each), place, found)); });
  };
  EXPECT_THAT(refused(1, {0, 2}, kNone),
              AllOf(HasSubstr("pipeline.device is \"cuda\", which cannot be had: no CUDA "
                              "device: this libtorch is a CPU build"),
                    HasSubstr("pipeline.device = \"cpu\"")));
  EXPECT_THAT(refused(1, {0, 5}, kTwo),
              AllOf(HasSubstr("2 CUDA devices for 5 ranks of this host"),
                    HasSubstr("pipeline.ranks_per_device = 3"), HasSubstr("CUDA_VISIBLE_DEVICES")));
  EXPECT_THAT(refused(2, {0, 5}, kTwo),
              HasSubstr("2 of which share one (pipeline.ranks_per_device)"));
  EXPECT_EQ(refused(2147483647, {0, 2147483647}, kTwo), "accepted");
}

// As under srun --gpus-per-task=1: whether the one is a rank's own is found out by all together.
TEST(ChooseDevice, OneOfALaunchersChoiceIsTakenUntilTheRanksHaveMet) {
  const CudaDevices one = {1, ""};
  const DeviceChoice choice = choose_device(wish("auto"), {3, 4, /*same_view=*/false}, one);
  EXPECT_EQ(choice.device, torch::Device(torch::kCUDA, 0));
  EXPECT_EQ(choice.why_cpu, "1 CUDA device for 4 ranks of this host");
  EXPECT_EQ(choice.remedy.substr(0, 33), "set pipeline.ranks_per_device = 4");
  EXPECT_EQ(choose_device(wish("cuda"), {3, 4, false}, one).device, choice.device);
  EXPECT_TRUE(choose_device(wish("auto"), {3, 4, true}, one).device.is_cpu());
}

// Of ranks of one host, whose devices these are; all use the CPU where not `used`.
RunDevices devices(const std::vector<std::string>& identities, bool used) {
  RunDevices all;
  for (const std::string& identity : identities) {
    RankDevice& rank = all.emplace_back();
    rank.host = "host";
    rank.identity = identity;
    rank.name = "NVIDIA L4";
    rank.is_used = used;
    if (identity == "cpu")
      rank.choice = {torch::kCPU, "no CUDA device: no driver", "install a driver"};
    else
      rank.choice.device = torch::Device(torch::kCUDA);
  }
  return all;
}

TEST(RunDevices, WhyAllUseTheCpuIsSaid) {
  const RunDevices one_without = devices({"cuda a", "cpu", "cuda b"}, false);
  EXPECT_EQ(devices_text(wish("auto"), one_without), "CPU: rank 1: no CUDA device: no driver");
  EXPECT_THAT(refusal([&] { require_devices(wish("cuda"), one_without); }),
              AllOf(HasSubstr("rank 1: no CUDA device: no driver; install a driver")));
  EXPECT_EQ(refusal([&] { require_devices(wish("auto"), one_without); }), "accepted");
  EXPECT_EQ(devices_text(wish("auto"), devices({"cpu", "cpu"}, false)),
            "CPU: no CUDA device: no driver");
  const RunDevices shared = devices({"cuda a", "cuda b", "cuda a", "cuda a"}, false);
  EXPECT_EQ(devices_text(wish("auto"), shared),
            "CPU: ranks 0, 2 and 3 have the same device, a NVIDIA L4, and "
            "pipeline.ranks_per_device is 1");
  EXPECT_THAT(refusal([&] { require_devices(wish("cuda"), shared); }),
              HasSubstr("set pipeline.ranks_per_device = 3"));
}

TEST(RunDevices, AreCountedByWhoUsesThem) {
  EXPECT_EQ(count_devices(devices({"cuda a", "cuda b", "cuda a"}, true)), 2);
  EXPECT_EQ(count_devices(devices({"cpu", "cpu", "cpu"}, false)), 3);
  EXPECT_EQ(devices_text(wish("auto"), devices({"cuda a", "cuda b", "cuda a", "cuda b"}, true)),
            "2 × NVIDIA L4, 2 ranks each; tensors of ranks that share one, or that NCCL cannot "
            "join, go through the host");
}

TEST(RunDevices, AreGathered) {
  run_ranks(3, [](Transport& transport) {
    const bool has_none = transport.rank() == 1;
    const RunDevices all = gather_devices(
        transport, {torch::kCPU, has_none ? "no CUDA device: no driver" : "", "install it"});
    EXPECT_EQ(all.size(), 3U);
    EXPECT_EQ(all[1].choice.why_cpu, "no CUDA device: no driver");
    EXPECT_EQ(all[1].choice.remedy, "install it");
    EXPECT_EQ(devices_text(wish("auto"), all), "CPU: rank 1: no CUDA device: no driver");
  });
}

double tera(const std::string& name, torch::ScalarType type) {
  const auto peak = stated_peak(name, type);
  return peak ? peak->flops / 1e12 : 0;
}

TEST(Utilisation, APeakIsFoundByTheWordsOfADevicesName) {
  EXPECT_EQ(tera("NVIDIA H100 80GB HBM3", torch::kBFloat16), 989.5);
  EXPECT_EQ(tera("NVIDIA H100 PCIe", torch::kBFloat16), 756.5);
  EXPECT_EQ(tera("NVIDIA A100-SXM4-80GB", torch::kBFloat16), 312);
  EXPECT_EQ(tera("NVIDIA A100-SXM4-80GB", torch::kFloat32), 19.5);
  EXPECT_EQ(tera("NVIDIA A10", torch::kFloat16), 125);
  EXPECT_EQ(tera("NVIDIA A10G", torch::kFloat16), 0);
  EXPECT_EQ(tera("NVIDIA L4", torch::kBFloat16), 121);
  EXPECT_EQ(tera("NVIDIA L40S", torch::kBFloat16), 362);
  EXPECT_EQ(tera("Tesla V100-SXM2-32GB", torch::kFloat16), 125);
  EXPECT_EQ(tera("Tesla V100-SXM2-32GB", torch::kBFloat16), 0) << "it has no such products";
  EXPECT_EQ(tera("Tesla V100-PCIE-16GB", torch::kFloat16), 112);
  EXPECT_EQ(tera("CPU", torch::kFloat32), 0);
  for (const char* other : {"NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GeForce RTX 3090 Ti",
                            "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 Laptop GPU"})
    EXPECT_EQ(tera(other, torch::kFloat32), 0) << other;
  EXPECT_EQ(tera("NVIDIA GeForce RTX 4090", torch::kFloat32), 82.6);
}

TEST(Utilisation, WithoutAStatedPeakItIsAShareOfAProductMeasuredHere) {
  const double product = measured_product(torch::kCPU, torch::kFloat32);
  EXPECT_GT(product, 1e8);
  EXPECT_EQ(utilisation_text(1234.5, 25e9, torch::kCPU, torch::kFloat32, 100e9),
            "1,234 tokens/s; 25.0 GFLOP/s of the model's matrix products a rank, 25.0% of what one "
            "does here, "
            "100.0 GFLOP/s");
  EXPECT_EQ(utilisation_text(1234.5, 25e9, torch::kCPU, torch::kFloat32, 0),
            "1,234 tokens/s; 25.0 GFLOP/s of the model's matrix products a rank");
}

}  // namespace
}  // namespace headrace
