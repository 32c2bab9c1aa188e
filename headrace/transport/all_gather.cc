#include "headrace/transport/all_gather.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace headrace {
namespace {

Tensors all_gather_tensors(Transport& transport, const torch::Tensor& mine, std::int64_t step) {
  const Label label{Purpose::AllGather, step, -1, -1};
  if (transport.rank() != 0) {
    auto arrival = transport.receive(0, label);
    transport.send(0, label, {mine});
    return arrival->wait().tensors;
  }
  std::vector<std::unique_ptr<Arrival>> arrivals;
  for (int from = 1; from < transport.size(); ++from)
    arrivals.push_back(transport.receive(from, label));
  Tensors all = {mine};
  for (const auto& arrival : arrivals) all.push_back(arrival->wait().tensors[0]);
  for (int to = 1; to < transport.size(); ++to) transport.send(to, label, all);
  return all;
}

}  // namespace

std::vector<std::vector<double>> all_gather(Transport& transport,
                                            const std::vector<double>& mine,
                                            std::int64_t step) {
  std::vector<std::vector<double>> all;
  for (const torch::Tensor& tensor :
       all_gather_tensors(transport, torch::tensor(mine, torch::kFloat64), step)) {
    const torch::Tensor dense = tensor.contiguous();
    const double* first = dense.data_ptr<double>();
    all.emplace_back(first, first + dense.numel());
  }
  return all;
}

std::vector<std::string> all_gather_text(Transport& transport,
                                         const std::string& mine,
                                         std::int64_t step) {
  torch::Tensor bytes = torch::empty({static_cast<std::int64_t>(mine.size())}, torch::kUInt8);
  std::copy(mine.begin(), mine.end(), bytes.data_ptr<std::uint8_t>());
  std::vector<std::string> all;
  for (const torch::Tensor& tensor : all_gather_tensors(transport, bytes, step)) {
    const std::uint8_t* first = tensor.data_ptr<std::uint8_t>();
    all.emplace_back(first, first + tensor.numel());
  }
  return all;
}

}  // namespace headrace
