#include "headrace/transport/all_gather.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace headrace {
namespace {

// The ranks are a tree, in which a rank has this many children: what is told goes up to rank 0 and all of
// it down again, so that no rank sends it to more than these. Few ranks are a star.
constexpr int kChildren = 8;

int parent_of(int rank) {
  return (rank - 1) / kChildren;
}

std::vector<int> children_of(int rank, int size) {
  std::vector<int> children;
  const std::int64_t first = std::int64_t{kChildren} * rank + 1;
  for (std::int64_t child = first; child < std::min<std::int64_t>(first + kChildren, size); ++child)
    children.push_back(static_cast<int>(child));
  return children;
}

// A rank and all below it, in the order in which a rank passes up what they tell.
void add_subtree(int rank, int size, std::vector<int>& ranks) {
  ranks.push_back(rank);
  for (const int child : children_of(rank, size)) add_subtree(child, size, ranks);
}

Tensors all_gather_tensors(Transport& transport, const torch::Tensor& mine, std::int64_t step) {
  const Label label{Purpose::AllGather, step, -1, -1};
  const int self = transport.rank();
  const std::vector<int> children = children_of(self, transport.size());
  std::vector<std::unique_ptr<Arrival>> arrivals;
  for (const int child : children) arrivals.push_back(transport.receive(child, label));
  Tensors below = {mine};
  for (const auto& arrival : arrivals)
    for (const torch::Tensor& told : arrival->wait().tensors) below.push_back(told);
  Tensors all(static_cast<std::size_t>(transport.size()));
  if (self == 0) {
    std::vector<int> order;
    add_subtree(0, transport.size(), order);
    for (std::size_t i = 0; i < order.size(); ++i)
      all[static_cast<std::size_t>(order[i])] = below.at(i);
  } else {
    auto arrival = transport.receive(parent_of(self), label);
    transport.send(parent_of(self), label, below);
    all = arrival->wait().tensors;
  }
  for (const int child : children) transport.send(child, label, all);
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
