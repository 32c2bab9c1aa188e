#include "headrace/checkpoint/folder.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/checkpoint/files.h"
#include "headrace/checkpoint/manifest.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStep = "step-";
constexpr std::string_view kPartial = ".partial";
constexpr std::string_view kDeleted = ".deleted";
constexpr std::string_view kShard = ".safetensors";

std::string step_name(std::int64_t step) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "step-%08lld", static_cast<long long>(step));
  return name.data();
}

std::string lacks_text(const std::vector<std::string>& files) {
  return cat("it lacks ", files.front(),
             files.size() > 1 ? cat(" and ", files.size() - 1, " more shards") : "",
             ", which another host may have");
}

struct Name {
  std::int64_t step = 0;
  std::string_view ending;  // "", ".partial" or ".deleted"
};

// Nothing where it is none that step_name makes, with one of the endings.
std::optional<Name> parse_name(std::string_view text) {
  Name name;
  for (const std::string_view ending : {kPartial, kDeleted})
    if (text.ends_with(ending)) name.ending = ending;
  text.remove_suffix(name.ending.size());
  if (!text.starts_with(kStep)) return std::nullopt;
  const std::string_view digits = text.substr(kStep.size());
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), name.step);
  if (error != std::errc() || step_name(name.step) != text) return std::nullopt;
  return name;
}

// Looks at the sizes of its files.
void look_into(FoundCheckpoint& checkpoint) {
  std::vector<std::string> lacks;
  try {
    for (const FileRecord& file : read_manifest(checkpoint.path)) {
      std::error_code error;
      const std::uint64_t size = fs::file_size(checkpoint.path / file.name, error);
      if (error == std::errc::no_such_file_or_directory &&
          std::string_view(file.name).ends_with(kShard)) {
        lacks.push_back(file.name);
        continue;
      }
      check(!error, file.name, ": ", error.message());
      check(size == file.bytes, file.name, " has ", size, " bytes, not ", file.bytes);
      checkpoint.bytes += size;
    }
  } catch (const Error& error) {
    checkpoint.why = error.what();
    return;
  }
  checkpoint.complete = lacks.empty();
  if (!lacks.empty()) checkpoint.why = lacks_text(lacks);
  checkpoint.lacks = std::move(lacks);
}

std::vector<fs::path> entries_of(const fs::path& directory) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error))
    entries.push_back(at->path());
  check(!error || error == std::errc::no_such_file_or_directory, "cannot read ", directory.string(),
        ": ", error.message());
  return entries;
}

}  // namespace

fs::path checkpoint_folder(const fs::path& directory, std::int64_t step) {
  return directory / step_name(step);
}

fs::path partial_folder(const fs::path& directory, std::int64_t step) {
  return directory / (step_name(step) += kPartial);
}

std::vector<FoundCheckpoint> list_checkpoints(const fs::path& directory) {
  std::vector<FoundCheckpoint> found;
  for (const fs::path& path : entries_of(directory)) {
    const std::string file = path.filename().string();
    const std::optional<Name> name = parse_name(file);
    if (!name) continue;
    FoundCheckpoint& checkpoint = found.emplace_back();
    checkpoint.path = path;
    checkpoint.step = name->step;
    if (name->ending == kPartial)
      checkpoint.why = "it is being written, or its writer did not come to its end";
    else if (name->ending == kDeleted)
      checkpoint.why = "its deletion did not come to its end";
    else
      look_into(checkpoint);
  }
  std::ranges::sort(found, [](const FoundCheckpoint& a, const FoundCheckpoint& b) {
    return a.step != b.step ? a.step > b.step : a.path < b.path;
  });
  return found;
}

std::optional<FoundCheckpoint> newest_complete(const fs::path& directory) {
  for (FoundCheckpoint& checkpoint : list_checkpoints(directory))
    if (checkpoint.complete) return std::move(checkpoint);
  return std::nullopt;
}

std::vector<fs::path> prune_checkpoints(const fs::path& directory, int keep, bool parts) {
  std::vector<fs::path> deleted;
  int complete = 0;
  for (const FoundCheckpoint& checkpoint : list_checkpoints(directory)) {
    const std::string& name = checkpoint.path.native();
    const bool counts = checkpoint.complete || (parts && !checkpoint.lacks.empty());
    complete += counts ? 1 : 0;
    const bool is_stale = name.ends_with(kDeleted) || (name.ends_with(kPartial) && complete > 0);
    const bool is_old = counts && complete > keep;
    if (!is_stale && !is_old) continue;
    delete_checkpoint(checkpoint.path);
    deleted.push_back(checkpoint.path);
  }
  return deleted;
}

void delete_checkpoint(const fs::path& folder) {
  fs::path doomed = folder;
  std::error_code error;
  if (!folder.native().ends_with(kDeleted)) {
    doomed += kDeleted;
    fs::remove_all(doomed, error);
    fs::rename(folder, doomed, error);
  }
  if (!error) fs::remove_all(doomed, error);
  check(!error, "cannot delete ", folder.string(), ": ", error.message());
}

}  // namespace headrace
