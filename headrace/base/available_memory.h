// How much memory this process may still take, so that sizes which cannot fit are refused before
// the work, with the arithmetic, instead of ending it half-way.
//
//   require_memory(16.0 * actions, cat("1f1b with these sizes has ", actions, " actions"));
//   naming_memory("validating 1f1b", [&] { return validate(schedule); });
#pragma once

#include <exception>
#include <filesystem>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

#include "headrace/base/error.h"

namespace headrace {

struct AvailableMemory {
  double bytes = std::numeric_limits<double>::infinity();
  std::string where = "this machine";  // what sets the limit, in words
};

// The least of what the machine has free, what the process's control groups (versions 1 and 2) have
// left, and what its own address space may grow by. Unlimited where nothing says. `root`: of /proc
// and /sys, for tests.
AvailableMemory available_memory(const std::filesystem::path& root = "/");

// Throws UsageError "`what`: 298.0 GiB, and this machine has 23.1 GiB left; …" where that is so.
// Small needs are not asked about, so it may be called often.
void require_memory(double bytes, const std::string& what);

// "memory ran out while `doing`; this machine has … left; …".
std::string out_of_memory_text(const std::string& doing = "");

// For messages: what the exception says, or, where it is the standard library's word for memory
// that has run out, that in plain words.
std::string failure_text(const std::exception& failure);

// make(), but that memory which runs out in it is an Error that names what was being done.
template <class Make>
auto naming_memory(const std::string& doing, Make&& make) {
  try {
    return make();
  } catch (const std::bad_alloc&) {
    throw Error(out_of_memory_text(doing));
  } catch (const std::length_error&) {  // larger than any container
    throw Error(out_of_memory_text(doing));
  }
}

}  // namespace headrace
