#include "headrace/checkpoint/diff.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/shards.h"
#include "headrace/checkpoint/state.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

double largest_difference(const TensorView& a, const TensorView& b) {
  double largest = 0;
  const std::size_t count = a.bytes.size() / bytes_of(a.dtype);
  for (std::size_t i = 0; i < count; ++i) {
    const double difference =
        std::abs(value_at(a.dtype, a.bytes, i) - value_at(b.dtype, b.bytes, i));
    if (std::isnan(difference)) return difference;
    largest = std::max(largest, difference);
  }
  return largest;
}

void compare(const TensorView& a, const TensorView& b, TensorDiff& diff) {
  if (a.shape != b.shape) {
    diff.how = "shape";
  } else if (a.dtype != b.dtype) {
    diff.how = "type";
  } else if (std::ranges::equal(a.bytes, b.bytes)) {
    diff.is_equal = true;
  } else {
    diff.how = "values";
    diff.largest = a.dtype == Dtype::F8E5M2 || a.dtype == Dtype::F8E4M3
                       ? std::numeric_limits<double>::quiet_NaN()
                       : largest_difference(a, b);
  }
}

bool is_ours(const fs::path& folder) {
  return fs::exists(folder / kStateFile);
}

void diff_part(const fs::path& a,
               const fs::path& b,
               const char* part,
               std::vector<TensorDiff>& diffs) {
  Shards in_a(a, part), in_b(b, part);
  std::set<std::string> names;
  for (const Shards* side : {&in_a, &in_b})
    for (const auto& [name, file] : side->files()) names.insert(name);
  for (const std::string& name : names) {
    TensorDiff& diff = diffs.emplace_back();
    diff.part = part;
    diff.name = name;
    if (!in_a.files().contains(name)) {
      diff.how = "only in B";
    } else if (!in_b.files().contains(name)) {
      diff.how = "only in A";
    } else {
      compare(in_a.at(name), in_b.at(name), diff);
    }
  }
}

std::map<std::string, std::string> numbers_of(const CheckpointState& state) {
  std::map<std::string, std::string> numbers = {{"step", std::to_string(state.step)},
                                                {"samples", std::to_string(state.samples)},
                                                {"seed", std::to_string(state.seed)},
                                                {"first moments", state.first ? "yes" : "no"},
                                                {"second moments", state.second ? "yes" : "no"}};
  for (const auto& [name, value] : state.numbers) {
    std::ostringstream text;
    text.precision(std::numeric_limits<double>::max_digits10);
    text << value;
    numbers[name] = text.str();
  }
  return numbers;
}

}  // namespace

std::vector<TensorDiff> diff_tensors(const fs::path& a, const fs::path& b) {
  std::vector<TensorDiff> diffs;
  diff_part(a, b, kWeights, diffs);
  if (!is_ours(a) || !is_ours(b)) return diffs;
  const CheckpointState of_a = read_state(a), of_b = read_state(b);
  if (of_a.first && of_b.first) diff_part(a, b, kFirst, diffs);
  if (of_a.second && of_b.second) diff_part(a, b, kSecond, diffs);
  return diffs;
}

std::vector<NumberDiff> diff_states(const fs::path& a, const fs::path& b) {
  if (!is_ours(a) || !is_ours(b)) return {};
  std::map<std::string, std::string> of_a = numbers_of(read_state(a)),
                                     of_b = numbers_of(read_state(b));
  std::vector<NumberDiff> diffs;
  for (const auto& [name, value] : of_b) of_a.emplace(name, "-");
  for (const auto& [name, value] : of_a) {
    const std::string& other = of_b.emplace(name, "-").first->second;
    if (value != other) diffs.push_back({name, value, other});
  }
  return diffs;
}

}  // namespace headrace
