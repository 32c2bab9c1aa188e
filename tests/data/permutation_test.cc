#include "headrace/data/permutation.h"

#include <array>
#include <cstdint>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace headrace {
namespace {

TEST(Permutation, IsOneForEveryLength) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t n = 1; n <= 300; ++n) lengths.push_back(n);
  for (const std::int64_t n : {1023, 1024, 1025, 4096, 4097, 65535, 65536, 65537, 1000003})
    lengths.push_back(n);
  for (const std::int64_t n : lengths) {
    for (const std::uint64_t key : {0u, 1u, 12345u}) {
      std::vector<bool> seen(static_cast<std::size_t>(n));
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t at = permuted(i, n, key);
        ASSERT_TRUE(at >= 0 && at < n) << n;
        ASSERT_FALSE(seen[static_cast<std::size_t>(at)]) << n;
        seen[static_cast<std::size_t>(at)] = true;
      }
      if (n > 70000) break;
    }
  }
}

TEST(Permutation, LargeLengthsStayInside) {
  const std::int64_t n = (std::int64_t{1} << 61) + 12345;
  std::set<std::int64_t> seen;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const std::int64_t at = permuted(i, n, 7);
    EXPECT_TRUE(at >= 0 && at < n && seen.insert(at).second);
  }
}

// Every item comes to every place about equally often over the keys (chi-square with 81 degrees of
// freedom, bound far out; the draws are fixed, so it cannot fail by chance).
TEST(Permutation, IsEvenOverKeys) {
  constexpr int kN = 10;
  constexpr int kKeys = 20000;
  std::array<std::array<int, kN>, kN> count{};
  for (int key = 0; key < kKeys; ++key)
    for (std::size_t i = 0; i < kN; ++i)
      ++count.at(i).at(static_cast<std::size_t>(
          permuted(static_cast<std::int64_t>(i), kN, static_cast<std::uint64_t>(key))));
  double chi = 0;
  for (const auto& row : count)
    for (const int seen : row)
      chi += (seen - kKeys / kN) * (seen - kKeys / kN) / double{kKeys / kN};
  EXPECT_LT(chi, 150);
}

TEST(Permutation, NeighboursPart) {
  constexpr std::int64_t kN = 10000;
  int near = 0;
  for (std::int64_t i = 1; i < kN; ++i) {
    const std::int64_t step = permuted(i, kN, 3) - permuted(i - 1, kN, 3);
    near += step > -100 && step < 100 ? 1 : 0;
  }
  EXPECT_LT(near, 400);  // 2% of random pairs
}

// These values are part of the format: a run of an older version must be repeatable.
TEST(Permutation, ValuesStay) {
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < 10; ++i) order.push_back(permuted(i, 10, 42));
  EXPECT_EQ(order, (std::vector<std::int64_t>{3, 8, 0, 9, 2, 7, 1, 5, 6, 4}));
}

}  // namespace
}  // namespace headrace
