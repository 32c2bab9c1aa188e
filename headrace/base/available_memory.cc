#include "headrace/base/available_memory.h"

#include <algorithm>
#include <charconv>
#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <sys/resource.h>
#include <unistd.h>

#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

constexpr double kUnknown = -1;

std::string text_of(const std::filesystem::path& file) {
  const std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// The whole number that `text` begins with; "max" and an empty file are none.
double leading_number(std::string_view text) {
  text = trim(text);
  double number = kUnknown;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// Of a file of lines "name number": /proc/meminfo, memory.stat.
double number_after(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(name)) return leading_number(std::string_view(line).substr(name.size()));
  return kUnknown;
}

void take_least(AvailableMemory& least, double bytes, const std::string& where) {
  if (bytes < 0 || bytes >= least.bytes) return;
  least = {.bytes = bytes, .where = where};
}

// How each version of control groups calls its files.
struct GroupFiles {
  const char* limit;
  const char* used;
  const char* active_file;  // of memory.stat: pages of files, which are given back when asked for
  const char* inactive_file;
};
constexpr GroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                  "total_active_file ", "total_inactive_file "};
constexpr GroupFiles kVersion2 = {"memory.max", "memory.current", "active_file ", "inactive_file "};

// A group's limit holds for all groups below it. In a container only some of them can be seen.
void ask_groups(const std::filesystem::path& mount,
                std::filesystem::path group,
                const GroupFiles& files,
                AvailableMemory& least) {
  while (true) {
    const std::filesystem::path folder = mount / group.relative_path();
    const double limit = leading_number(text_of(folder / files.limit));
    const double used = leading_number(text_of(folder / files.used));
    if (limit >= 0 && used >= 0) {
      const std::string stat = text_of(folder / "memory.stat");
      double free = limit - used;
      for (const char* pages : {files.active_file, files.inactive_file})
        free += std::max(0.0, number_after(stat, pages));
      take_least(least, std::max(0.0, free), "this process's control group");
    }
    if (!group.has_relative_path()) return;
    group = group.parent_path();
  }
}

}  // namespace

AvailableMemory available_memory(const std::filesystem::path& root) {
  AvailableMemory least;
  const std::string machine = text_of(root / "proc/meminfo");
  if (const double kilobytes = number_after(machine, "MemAvailable:"); kilobytes >= 0)
    least.bytes = 1024 * (kilobytes + std::max(0.0, number_after(machine, "SwapFree:")));

  // "4:memory:/group" of version 1, "0::/group" of version 2.
  std::istringstream lines(text_of(root / "proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) ask_groups(root / "sys/fs/cgroup", group, kVersion2, least);
    for (const std::string& controller : split_text(controllers, ','))
      if (controller == "memory")
        ask_groups(root / "sys/fs/cgroup/memory", group, kVersion1, least);
  }

  rlimit space{};
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    const double pages = leading_number(text_of(root / "proc/self/statm"));
    const double used = std::max(0.0, pages) * static_cast<double>(sysconf(_SC_PAGESIZE));
    take_least(least, std::max(0.0, static_cast<double>(space.rlim_cur) - used),
               "the limit on this process's address space");
  }
  return least;
}

void require_memory(double bytes, const std::string& what) {
  constexpr double kSmall = 16 * 1024.0 * 1024.0;
  if (bytes < kSmall) return;
  const AvailableMemory available = available_memory();
  check_usage(bytes <= available.bytes, what, ": ", bytes_text(bytes), ", and ", available.where,
              " has ", bytes_text(available.bytes), " left; choose smaller sizes");
}

std::string out_of_memory_text(const std::string& doing) {
  const AvailableMemory available = available_memory();
  std::string left;
  if (available.bytes < std::numeric_limits<double>::infinity())
    left = cat("; ", available.where, " has ", bytes_text(available.bytes), " left");
  return cat("memory ran out", doing.empty() ? "" : " while ", doing, left,
             "; choose smaller sizes");
}

std::string failure_text(const std::exception& failure) {
  const bool out_of_memory = dynamic_cast<const std::bad_alloc*>(&failure) != nullptr ||
                             dynamic_cast<const std::length_error*>(&failure) != nullptr;
  return out_of_memory ? out_of_memory_text() : failure.what();
}

}  // namespace headrace
