#include "headrace/base/file.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <ios>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

#include <unistd.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

std::string reason() {
  return std::generic_category().message(errno);
}

}  // namespace

std::string read_file(const std::string& path) {
  check(!std::filesystem::is_directory(path), "cannot read ", path, ": it is a directory");
  std::ifstream file(path, std::ios::binary);
  check(file.good(), "cannot read ", path, ": ", reason());
  std::ostringstream text;
  text << file.rdbuf();
  check(!file.bad(), "cannot read ", path, ": ", reason());
  return text.str();
}

void write_file(const std::string& path, std::string_view text) {
  // A device or a pipe is written in place.
  const bool in_place = std::filesystem::exists(path) && !std::filesystem::is_regular_file(path);
  const std::string beside = in_place ? path : cat(path, ".", ::getpid(), ".part");
  std::ofstream file(beside, std::ios::binary | std::ios::trunc);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  bool ok = file.good();
  std::string why = reason();
  if (ok && !in_place) {
    ok = std::rename(beside.c_str(), path.c_str()) == 0;
    why = reason();
  }
  if (!ok && !in_place) std::remove(beside.c_str());
  check(ok, "cannot write ", path, ": ", why);
}

}  // namespace headrace
