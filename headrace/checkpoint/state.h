// The scalars of a checkpoint: its state.json. Needs no torch.
//
//   const CheckpointState state = read_state("runs/one/checkpoints/step-00001200");
//
// Strict; throws Error that names the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace headrace {

struct CheckpointState {
  std::int64_t step = 0;
  std::int64_t samples = 0;
  std::uint64_t seed = 0;
  bool first = false;   // whether there are files with the optimizer's first moments,
  bool second = false;  // and its second ones
  std::map<std::string, double> numbers;

  bool operator==(const CheckpointState&) const = default;
};

CheckpointState read_state(const std::filesystem::path& folder);
std::string to_json(const CheckpointState& state);
CheckpointState parse_state(const std::string& text, const std::string& name);

}  // namespace headrace
