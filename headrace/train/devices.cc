#include "headrace/train/devices.h"

#include <cstdlib>
#include <map>
#include <vector>

#include <ATen/Context.h>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/train/agreement.h"
#include "headrace/transport/all_gather.h"

namespace headrace {

namespace {

[[noreturn]] void refuse(const std::string& why, const std::string& remedy) {
  throw UsageError(cat("pipeline.device is \"cuda\", and there ", why, "; ", remedy));
}

constexpr const char* kTakeTheCpu =
    "set pipeline.device = \"cpu\", or install a CUDA build of torch and a driver";

std::string share_them(int each) {
  return cat("set pipeline.ranks_per_device = ", each,
             " for ranks to share them, start fewer ranks on the host, or look at "
             "CUDA_VISIBLE_DEVICES");
}

}  // namespace

DeviceChoice choose_device(const PipelineConfig& pipeline,
                           const PlaceOnHost& place,
                           const CudaDevices& found) {
  if (pipeline.device == "cpu") return {torch::kCPU, "pipeline.device says so"};
  const bool must = pipeline.device == "cuda";
  if (found.count == 0) {
    const std::string why = cat("no CUDA device: ", found.why_none);
    if (must) refuse("is " + why, kTakeTheCpu);
    return {torch::kCPU, why};
  }
  const int each = pipeline.ranks_per_device;
  if (found.count >= (place.size + each - 1) / each)
    return {torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(place.rank / each)), ""};
  const std::string why =
      cat(found.count, found.count == 1 ? " CUDA device" : " CUDA devices", " for ", place.size,
          " ranks of this host",
          each > 1 ? cat(", ", each, " of which share one (pipeline.ranks_per_device)") : "");
  if (!place.same_view && found.count == 1) return {torch::Device(torch::kCUDA, 0), why};
  if (must)
    refuse(cat(found.count == 1 ? "is " : "are ", why),
           share_them((place.size + found.count - 1) / found.count));
  return {torch::kCPU, why};
}

void require_device(const PipelineConfig& pipeline,
                    const Transport& transport,
                    const DeviceChoice& choice) {
  if (pipeline.device != "cuda" || transport.device().is_cuda()) return;
  refuse(choice.why_cpu.empty() ? "is a rank that shares its device with more than "
                                  "pipeline.ranks_per_device says"
                                : "is " + choice.why_cpu,
         share_them(transport.size()));
}

void set_deterministic(bool deterministic, torch::Device device) {
  if (!device.is_cuda()) return;
  at::globalContext().setDeterministicAlgorithms(deterministic, /*warn_only=*/false);
  // Where it is preferred, attention's own kernels are not offered (model/attention.cc).
  at::globalContext().setSDPUseCuDNN(false);
  // It would fill each new tensor, for programs that read what they have not written.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  // cuBLAS is the same each time with workspaces of its own choice of size only if told so before its first use.
  constexpr int kNotOver = 0;
  if (deterministic) ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", kNotOver);
}

namespace {

constexpr char kBetween = '\n';

struct RankDevice {
  std::string host, identity, name, why_cpu;
  bool straight = true;
};

std::vector<RankDevice> gather(Transport& transport, const std::string& why_cpu) {
  const torch::Device device = transport.device();
  const std::string own = join_text(
      {device_identity(device), device_name(device), why_cpu, transport.is_straight() ? "+" : "-"},
      std::string(1, kBetween));
  std::vector<RankDevice> all;
  for (const std::string& text : all_gather_text(transport, own, kAgreement)) {
    const std::vector<std::string> parts = split_text(text, kBetween);
    const std::string host = transport.host(static_cast<int>(all.size()));
    all.push_back({host, parts.at(0), parts.at(1), parts.at(2), parts.at(3) == "+"});
  }
  return all;
}

// "3 × NVIDIA H100, 2 ranks each": by name, and by how many ranks share one.
std::string counted(const std::vector<RankDevice>& ranks) {
  std::map<std::string, int> ranks_of;  // by device
  std::map<std::string, std::string> name_of;
  for (const RankDevice& rank : ranks) {
    const std::string device = rank.host + kBetween + rank.identity;
    ++ranks_of[device];
    name_of[device] = rank.name;
  }
  std::map<std::pair<std::string, int>, int> devices;  // by name and ranks
  for (const auto& [device, count] : ranks_of) ++devices[{name_of[device], count}];
  std::vector<std::string> parts;
  for (const auto& [kind, count] : devices)
    parts.push_back(cat(count, " × ", kind.first, ", ",
                        kind.second == 1 ? std::string("a rank") : cat(kind.second, " ranks"),
                        " each"));
  return join_text(parts, "; ");
}

}  // namespace

std::string devices_text(Transport& transport, const std::string& why_cpu) {
  const std::vector<RankDevice> ranks = gather(transport, why_cpu);
  if (transport.device().is_cpu()) {
    for (std::size_t r = 0; r < ranks.size(); ++r)
      if (!ranks[r].why_cpu.empty())
        return cat("CPU: ", spans_hosts(transport) ? cat("on host ", ranks[r].host, " ") : "",
                   ranks[r].why_cpu);
    return "CPU";
  }
  bool straight = true;
  for (const RankDevice& rank : ranks) straight = straight && rank.straight;
  return cat(counted(ranks), ranks.size() == 1 ? ""
                             : straight        ? "; tensors go straight between them"
                                               : "; tensors of ranks that share one, or that NCCL "
                                                 "cannot join, go through the host");
}

void require_device_memory(const Config& config, const Transport& transport, double bytes) {
  const torch::Device device = transport.device();
  const double total = device_memory(device);
  const int each = config.pipeline.ranks_per_device;
  check(total == 0 || bytes * each <= total, "the tensors of rank ", transport.rank(),
        " will take about ", bytes_text(bytes), each > 1 ? cat(", and ", each, " ranks share") : "",
        each > 1 ? " " : ", and ", device_name(device), each > 1 ? ", which has " : " has ",
        bytes_text(total), "; ", memory_advice());
}

std::string memory_advice() {
  return "it would take less with a smaller train.microbatch, more pipeline.ranks, "
         "pipeline.recompute = \"all\" or train.precision = \"bf16\"";
}

}  // namespace headrace
