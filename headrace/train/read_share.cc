#include "headrace/train/read_share.h"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <sstream>
#include <utility>

#include "headrace/base/file.h"
#include "headrace/base/text.h"
#include "headrace/checkpoint/files.h"
#include "headrace/checkpoint/folder.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/read.h"
#include "headrace/checkpoint/state.h"
#include "headrace/runtime/ownership.h"
#include "headrace/tensor/exception_text.h"
#include "headrace/train/agreement.h"
#include "headrace/transport/all_gather.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

Names lines_of(const std::string& text) {
  Names lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

template <class List, class Value>
bool has(const List& list, const Value& value) {
  return std::ranges::find(list, value) != list.end();
}

Names without(Names names, const Names& others) {
  std::erase_if(names, [&](const std::string& name) { return has(others, name); });
  return names;
}

// Which rank gives a parameter, and to whom.
struct Delivery {
  std::string name;
  int from = -1;
  std::vector<int> to;
};

class ShareReader {
 public:
  ShareReader(const fs::path& folder,
              const Wanted& wanted,
              const Naming& naming,
              Transport& transport)
      : folder_(folder), wanted_(wanted), naming_(naming), transport_(transport) {}

  ReadShare read() {
    Names absent;
    std::string fault = agree_on_checkpoint();
    if (fault.empty()) fault = agreed_fault([&] { absent = read_own(); });
    if (fault.empty()) fault = receive(absent);
    return {std::move(share_), std::move(fault)};
  }

 private:
  // The first rank's whose action fails.
  std::string agreed_fault(const std::function<void()>& action) {
    std::string mine;
    try {
      action();
    } catch (const std::exception& error) {
      mine = cat("rank ", transport_.rank(), host_text(transport_, transport_.rank()), ": ",
                 text_of(error));
    }
    for (const std::string& fault : all_gather_text(transport_, mine, kCheckpoint))
      if (!fault.empty()) return fault;
    return "";
  }

  // Folders of the same step on several hosts may be of two checkpoints, where a run was ended while it gave them
  // their names. What is no tensor is heard here, for ranks that see nothing of the checkpoint.
  std::string agree_on_checkpoint() {
    // The checksum of the list of checksums, and the state; empty: nothing is here.
    std::string mine;
    const std::string fault = agreed_fault([&] {
      if (!fs::exists(folder_ / kManifestFile)) return;
      const std::string list = read_file((folder_ / kManifestFile).string());
      mine = checksum_of(std::as_bytes(std::span(list))) + "\n" +
             read_file((folder_ / kStateFile).string());
    });
    if (!fault.empty()) return fault;
    const std::vector<std::string> all = all_gather_text(transport_, mine, kCheckpoint);
    int first = -1;
    for (int rank = 0; rank < transport_.size(); ++rank) {
      const std::string& theirs = all[static_cast<std::size_t>(rank)];
      if (theirs.empty()) continue;
      if (first < 0) first = rank;
      if (theirs != all[static_cast<std::size_t>(first)])
        return cat("rank ", first, host_text(transport_, first), " and rank ", rank,
                   host_text(transport_, rank), " have another checkpoint of this step each");
    }
    if (first < 0) return "no rank sees anything of it";
    const std::string& known = all[static_cast<std::size_t>(first)];
    return agreed_fault([&] {
      const CheckpointState state =
          parse_state(known.substr(known.find('\n') + 1), (folder_ / kStateFile).string());
      share_.step = state.step;
      share_.samples = state.samples;
      share_.seed = state.seed;
      share_.numbers = state.numbers;
    });
  }

  // Returns what it needs and does not see.
  Names read_own() {
    const Names all = parameters_here(folder_, wanted_.all, naming_);
    const Names weights = parameters_here(folder_, wanted_.weights, naming_);
    Names absent = without(wanted_.all, all);
    const Names more = without(wanted_.weights, weights);
    absent.insert(absent.end(), more.begin(), more.end());
    if (fs::exists(folder_ / kManifestFile)) share_ = read_checkpoint(folder_, all, naming_);
    if (!weights.empty()) share_.weights.merge(headrace::read_weights(folder_, weights, naming_));
    return absent;
  }

  std::string receive(const Names& absent) {
    // By name: the ranks that need it.
    std::map<std::string, std::vector<int>> needed;
    const auto theirs = all_gather_text(
        transport_, absent.empty() ? "" : join_text(absent, "\n") + "\n", kCheckpoint);
    for (std::size_t rank = 0; rank < theirs.size(); ++rank)
      for (const std::string& name : lines_of(theirs[rank]))
        needed[name].push_back(static_cast<int>(rank));
    if (needed.empty()) return "";
    std::vector<Delivery> deliveries;
    std::string fault = find_givers(needed, deliveries);
    Snapshot mine;
    if (fault.empty()) fault = agreed_fault([&] { mine = read_for_others(deliveries); });
    if (fault.empty()) deliver(deliveries, mine);
    return fault;
  }

  // The fault is that no rank sees one of them.
  std::string find_givers(const std::map<std::string, std::vector<int>>& needed,
                          std::vector<Delivery>& deliveries) {
    Names names;
    for (const auto& [name, ranks] : needed) names.push_back(name);
    std::string here;
    const std::string fault = agreed_fault([&] {
      for (const std::string& name : parameters_here(folder_, names, naming_)) here += name + "\n";
    });
    if (!fault.empty()) return fault;
    const auto seen = all_gather_text(transport_, here, kCheckpoint);
    std::map<std::string, int> givers;
    for (std::size_t rank = 0; rank < seen.size(); ++rank)
      for (const std::string& name : lines_of(seen[rank]))
        givers.emplace(name, static_cast<int>(rank));
    for (const auto& [name, to] : needed) {
      if (!givers.contains(name)) return lost();
      deliveries.push_back({name, givers.at(name), to});
    }
    return "";
  }

  // Which files lie on no host, and which each has; every rank calls it.
  std::string lost() {
    std::string mine;
    for (const FoundCheckpoint& found : list_checkpoints(folder_.parent_path()))
      if (found.path == folder_)
        for (const std::string& file : found.lacks) mine += file + "\n";
    const bool is_there = fs::exists(folder_);
    const auto lacking = all_gather_text(transport_, is_there ? mine : "-", kCheckpoint);
    std::set<std::string> nowhere;
    for (const std::string& theirs : lacking)
      if (theirs != "-")
        for (const std::string& file : lines_of(theirs)) nowhere.insert(file);
    std::vector<std::string> without_any;  // hosts
    for (std::size_t rank = 0; rank < lacking.size(); ++rank) {
      if (lacking[rank] == "-") {
        const std::string host = transport_.host(static_cast<int>(rank));
        if (!has(without_any, host)) without_any.push_back(host);
        continue;
      }
      const Names lacks = lines_of(lacking[rank]);
      std::erase_if(nowhere, [&](const std::string& file) { return !has(lacks, file); });
    }
    const Names files(nowhere.begin(), nowhere.end());
    return cat(
        join_text(files, ", "), files.size() == 1 ? " lies" : " lie", " on none of the hosts",
        without_any.empty()
            ? ""
            : cat(", and ", join_text(without_any, ", "), " has nothing of this checkpoint"),
        "; copy what is missing from the host that wrote it into the same folder of any host of "
        "this run");
  }

  // What this rank gives and has not read for itself.
  Snapshot read_for_others(const std::vector<Delivery>& deliveries) {
    Names names;
    for (const Delivery& delivery : deliveries)
      if (delivery.from == transport_.rank() && !has_moments(delivery.name))
        names.push_back(delivery.name);
    return names.empty() ? Snapshot() : read_checkpoint(folder_, names, naming_);
  }

  bool has_moments(const std::string& name) const { return has(wanted_.all, name); }

  // In one order on all ranks, so that whoever waits, waits for a rank that comes to it.
  void deliver(const std::vector<Delivery>& deliveries, const Snapshot& others) {
    const auto tensors = [](const Snapshot& of, const std::string& name) {
      Tensors list;
      for (const NamedTensors* part : {&of.weights, &of.first, &of.second}) {
        const auto found = part->find(name);
        list.push_back(found == part->end() ? torch::Tensor() : found->second);
      }
      return list;
    };
    int number = 0;
    for (const Delivery& delivery : deliveries) {
      const Label label{Purpose::Parameters, kCheckpoint, -1, number++};
      if (delivery.from == transport_.rank())
        for (const int to : delivery.to)
          transport_.send(to, label,
                          tensors(has_moments(delivery.name) ? share_ : others, delivery.name));
      if (!has(delivery.to, transport_.rank())) continue;
      const Message message = transport_.receive(delivery.from, label)->wait();
      share_.weights[delivery.name] = message.tensors.at(0).clone();
      if (!has_moments(delivery.name)) continue;
      if (message.tensors.at(1).defined())
        share_.first[delivery.name] = message.tensors.at(1).clone();
      if (message.tensors.at(2).defined())
        share_.second[delivery.name] = message.tensors.at(2).clone();
    }
    transport_.flush();
  }

  const fs::path& folder_;
  const Wanted& wanted_;
  const Naming& naming_;
  Transport& transport_;
  Snapshot share_;
};

}  // namespace

Wanted wanted_by(const Config& config, const Plan& plan, int rank) {
  const Ownership ownership = ownership_of(plan);
  Wanted wanted;
  for (const std::size_t order : ownership.owned_by(rank)) {
    const Ownership::Parameter& parameter = ownership.parameters[order];
    const bool updates = !config.pipeline.shard_optimizer || parameter.home == rank;
    (updates ? wanted.all : wanted.weights).push_back(parameter.name);
  }
  return wanted;
}

ReadShare read_share(const fs::path& folder,
                     const Wanted& wanted,
                     const Naming& naming,
                     Transport& transport) {
  return ShareReader(folder, wanted, naming, transport).read();
}

}  // namespace headrace
