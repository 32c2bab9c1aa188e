// Every rank gives a list of numbers, every rank gets all lists: up a tree to rank 0 and down again, over
// the transport's own messages, so that limits and failures are those of any other wait. Bits are kept.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "headrace/transport/transport.h"

namespace headrace {

// result[rank] is what that rank gave. Lists may differ in length.
std::vector<std::vector<double>> all_gather(Transport& transport,
                                            const std::vector<double>& mine,
                                            std::int64_t step);

// The same for texts.
std::vector<std::string> all_gather_text(Transport& transport,
                                         const std::string& mine,
                                         std::int64_t step);

// The same for lists of plain structs.
template <class T>
  requires std::is_trivially_copyable_v<T>
std::vector<std::vector<T>> all_gather_of(Transport& transport,
                                          const std::vector<T>& mine,
                                          std::int64_t step) {
  const std::string bytes(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(T));
  std::vector<std::vector<T>> all;
  for (const std::string& theirs : all_gather_text(transport, bytes, step)) {
    std::vector<T>& list = all.emplace_back(theirs.size() / sizeof(T));
    if (!list.empty()) std::memcpy(list.data(), theirs.data(), theirs.size());
  }
  return all;
}

}  // namespace headrace
