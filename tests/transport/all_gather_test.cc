// What every rank tells all others arrives everywhere, for numbers of ranks that fill the tree and that do not.
#include "headrace/transport/all_gather.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "headrace/transport/local.h"

namespace headrace {
namespace {

// Of different lengths, one of them empty, and with bits that arithmetic would lose.
std::vector<double> told_by(int rank) {
  std::vector<double> list(static_cast<std::size_t>((rank + 1) % 4), -0.0);
  for (std::size_t i = 0; i < list.size(); ++i)
    list[i] = rank + std::ldexp(1.0, -50) * static_cast<double>(i);
  return list;
}

class AllGather : public testing::TestWithParam<int> {};

TEST_P(AllGather, EveryRankGetsAllLists) {
  const int size = GetParam();
  std::atomic<int> good = 0;
  run_ranks(size, [&](Transport& transport) {
    for (std::int64_t step = 0; step < 3; ++step) {
      const auto lists = all_gather(transport, told_by(transport.rank()), step);
      ASSERT_EQ(lists.size(), static_cast<std::size_t>(size));
      for (int rank = 0; rank < size; ++rank)
        EXPECT_EQ(lists[static_cast<std::size_t>(rank)], told_by(rank))
            << "on " << transport.rank();
      const std::string mine(static_cast<std::size_t>(transport.rank() % 3), 'a');
      const auto texts = all_gather_text(transport, mine, step);
      for (int rank = 0; rank < size; ++rank)
        EXPECT_EQ(texts[static_cast<std::size_t>(rank)].size(), static_cast<std::size_t>(rank % 3));
    }
    ++good;
  });
  EXPECT_EQ(good, size);
}

INSTANTIATE_TEST_SUITE_P(Sizes, AllGather, testing::Values(1, 2, 3, 9, 10, 17, 18, 73, 74, 90));

}  // namespace
}  // namespace headrace
