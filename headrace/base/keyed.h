// Keys for random draws: every draw is named by what it is for, so that it does not depend on who
// draws it or when.
//
//   const std::uint64_t seed = keyed(run_seed, "blocks.3.mlp.up.weight");
//   const std::uint64_t mask = keyed(run_seed, "dropout", step, microbatch, layer);
//
// The mixing function is splitmix64's finaliser (Steele, Lea, Flood: Fast splittable pseudorandom
// number generators, OOPSLA 2014); text goes in by FNV-1a. Values are part of the format: changing
// them changes every run.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>

namespace headrace {

constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

constexpr std::uint64_t key_part(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

constexpr std::uint64_t key_part(std::integral auto number) {
  return static_cast<std::uint64_t>(number);
}

template <class... Parts>
constexpr std::uint64_t keyed(std::uint64_t seed, const Parts&... parts) {
  std::uint64_t state = mix(seed);
  ((state = mix(state ^ mix(key_part(parts)))), ...);
  return state;
}

}  // namespace headrace
