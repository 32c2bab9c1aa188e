#include "headrace/train/devices.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <numeric>
#include <utility>

#include <ATen/Context.h>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/train/agreement.h"
#include "headrace/transport/all_gather.h"

namespace headrace {

namespace {

constexpr const char* kTakeTheCpu =
    "set pipeline.device = \"cpu\", or install a CUDA build of torch and a driver";
constexpr char kBetween = '\n';

std::string share_them(int each) {
  return cat("set pipeline.ranks_per_device = ", each,
             " for ranks to share them, start fewer ranks on the host, or look at "
             "CUDA_VISIBLE_DEVICES");
}

// How many of so many, at most, one of each `each`.
int shares(int count, int each) {
  return (count - 1) / each + 1;
}

}  // namespace

// A transfer waits on the device for a peer. What comes after it in the same of a device's queues, of which there are 8
// else, would wait with it; and so would the first use of a kernel that is loaded only then.
void prepare_cuda() {
  constexpr int kNotOver = 0;
  ::setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", kNotOver);
  ::setenv("CUDA_MODULE_LOADING", "EAGER", kNotOver);
}

DeviceChoice choose_device(const PipelineConfig& pipeline,
                           const PlaceOnHost& place,
                           const CudaDevices& found) {
  if (pipeline.device == "cpu") return {torch::kCPU, "pipeline.device says so", ""};
  if (found.count == 0) return {torch::kCPU, cat("no CUDA device: ", found.why_none), kTakeTheCpu};
  const int each = pipeline.ranks_per_device;
  if (found.count >= shares(place.size, each))
    return {torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(place.rank / each)), "", ""};
  const std::string why =
      cat(found.count, found.count == 1 ? " CUDA device" : " CUDA devices", " for ", place.size,
          " ranks of this host",
          each > 1 ? cat(", ", each, " of which share one (pipeline.ranks_per_device)") : "");
  const bool may_be_its_own = !place.same_view && found.count == 1;
  return {may_be_its_own ? torch::Device(torch::kCUDA, 0) : torch::Device(torch::kCPU), why,
          share_them(shares(place.size, found.count))};
}

namespace {

[[noreturn]] void refuse(const std::string& why, const std::string& remedy) {
  throw UsageError(cat("pipeline.device is \"cuda\", which cannot be had: ", why, "; ", remedy));
}

// "rank 3", "ranks 0, 1 and 4".
std::string ranks_text(const std::vector<int>& ranks) {
  std::string text = cat(ranks.size() == 1 ? "rank " : "ranks ", ranks.front());
  for (std::size_t i = 1; i < ranks.size(); ++i)
    text += cat(i + 1 < ranks.size() ? ", " : " and ", ranks[i]);
  return text;
}

// By device, the ranks that have it.
std::map<std::string, std::vector<int>> ranks_of_devices(const RunDevices& devices) {
  std::map<std::string, std::vector<int>> ranks;
  for (std::size_t r = 0; r < devices.size(); ++r)
    ranks[devices[r].host + kBetween + devices[r].identity].push_back(static_cast<int>(r));
  return ranks;
}

// "rank 3: "; with its host, where there are several.
std::string who(const RunDevices& devices, std::size_t rank) {
  const bool spans_hosts = std::ranges::any_of(
      devices, [&](const RankDevice& each) { return each.host != devices.front().host; });
  return cat("rank ", rank, spans_hosts ? cat(" (host ", devices[rank].host, ")") : "", ": ");
}

// Why all use the CPU, and what to do about it; empty where nothing speaks for it.
std::pair<std::string, std::string> reason(const PipelineConfig& pipeline,
                                           const RunDevices& devices) {
  for (std::size_t r = 0; r < devices.size(); ++r) {
    const DeviceChoice& choice = devices[r].choice;
    if (!choice.device.is_cpu() || choice.why_cpu.empty()) continue;
    const bool is_of_all = std::ranges::all_of(devices, [&](const RankDevice& other) {
      return other.choice.device.is_cpu() && other.choice.why_cpu == choice.why_cpu;
    });
    return {cat(is_of_all ? "" : who(devices, r), choice.why_cpu), choice.remedy};
  }
  for (const auto& [device, ranks] : ranks_of_devices(devices)) {
    const RankDevice& first = devices[static_cast<std::size_t>(ranks.front())];
    const auto count = static_cast<int>(ranks.size());
    if (count > pipeline.ranks_per_device && !first.choice.device.is_cpu())
      return {cat(ranks_text(ranks), " have the same device, a ", first.name,
                  ", and pipeline.ranks_per_device is ", pipeline.ranks_per_device),
              share_them(count)};
  }
  return {};
}

// "3 × NVIDIA H100, 2 ranks each": by name, and by how many ranks share one.
std::string counted(const RunDevices& devices) {
  std::map<std::pair<std::string, std::size_t>, int> count_of;  // by name and ranks
  for (const auto& [device, ranks] : ranks_of_devices(devices))
    ++count_of[{devices[static_cast<std::size_t>(ranks.front())].name, ranks.size()}];
  std::vector<std::string> parts;
  for (const auto& [kind, count] : count_of)
    parts.push_back(cat(count, " × ", kind.first, ", ",
                        kind.second == 1 ? std::string("a rank") : cat(kind.second, " ranks"),
                        " each"));
  return join_text(parts, "; ");
}

}  // namespace

void require_cuda(const PipelineConfig& pipeline, const DeviceChoice& choice) {
  if (pipeline.device == "cuda" && choice.device.is_cpu()) refuse(choice.why_cpu, choice.remedy);
}

RunDevices gather_devices(Transport& transport, const DeviceChoice& choice) {
  const bool is_used = !transport.device().is_cpu();
  const torch::Device device = is_used ? transport.device() : choice.device;
  const std::string own = join_text(
      {device.is_cpu() ? "-" : "+", choice.why_cpu, choice.remedy, device_identity(device),
       device_name(device), is_used ? "+" : "-", transport.is_straight() ? "+" : "-"},
      std::string(1, kBetween));
  RunDevices all;
  for (const std::string& text : all_gather_text(transport, own, kAgreement)) {
    const std::vector<std::string> parts = split_text(text, kBetween);
    const torch::Device kind = parts.at(0) == "+" ? torch::Device(torch::kCUDA) : torch::kCPU;
    all.push_back({.host = transport.host(static_cast<int>(all.size())),
                   .choice = {kind, parts.at(1), parts.at(2)},
                   .identity = parts.at(3),
                   .name = parts.at(4),
                   .is_used = parts.at(5) == "+",
                   .straight = parts.at(6) == "+"});
  }
  return all;
}

void require_devices(const PipelineConfig& pipeline, const RunDevices& devices) {
  if (pipeline.device != "cuda" || devices.front().is_used) return;
  const auto [why, remedy] = reason(pipeline, devices);
  refuse(why, remedy);
}

std::string devices_text(const PipelineConfig& pipeline, const RunDevices& devices) {
  if (!devices.front().is_used) {
    const std::string why = reason(pipeline, devices).first;
    return why.empty() ? "CPU" : "CPU: " + why;
  }
  bool straight = true;
  for (const RankDevice& rank : devices) straight = straight && rank.straight;
  return cat(counted(devices), devices.size() == 1 ? ""
                               : straight          ? "; tensors go straight between them"
                                          : "; tensors of ranks that share one, or that NCCL "
                                            "cannot join, go through the host");
}

int count_devices(const RunDevices& devices) {
  return static_cast<int>(devices.front().is_used ? ranks_of_devices(devices).size()
                                                  : devices.size());
}

void require_device_memory(const RunDevices& devices, Transport& transport, double bytes) {
  const auto all = all_gather(transport, {bytes, device_memory(transport.device())}, kAgreement);
  for (const auto& [device, ranks] : ranks_of_devices(devices)) {
    const auto first = static_cast<std::size_t>(ranks.front());
    const double has = all[first][1];
    const double taken = std::accumulate(
        ranks.begin(), ranks.end(), 0.0,
        [&](double sum, int rank) { return sum + all[static_cast<std::size_t>(rank)][0]; });
    check_usage(has == 0 || taken <= has, "the tensors of ", ranks_text(ranks),
                host_text(transport, ranks.front()), " will take about ", bytes_text(taken),
                ", and ", ranks.size() > 1 ? "the device that they share, " : "",
                devices[first].name, ranks.size() > 1 ? ", has " : " has ", bytes_text(has), "; ",
                memory_advice());
  }
}

void set_deterministic(bool deterministic, torch::Device device) {
  if (!device.is_cuda()) return;
  at::globalContext().setDeterministicAlgorithms(deterministic, /*warn_only=*/false);
  // Where it is preferred, attention's own kernels are not offered (model/ops/attend.cc).
  at::globalContext().setSDPUseCuDNN(false);
  // It would fill each new tensor, for programs that read what they have not written.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  // cuBLAS is the same each time with workspaces of its own choice of size only if told so before its first use.
  constexpr int kNotOver = 0;
  if (deterministic) ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", kNotOver);
}

std::string memory_advice() {
  return "it would take less with a smaller train.microbatch, more pipeline.ranks, "
         "pipeline.recompute = \"all\" or train.precision = \"bf16\"";
}

}  // namespace headrace
