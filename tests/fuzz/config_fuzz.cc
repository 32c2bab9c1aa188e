// Any bytes as a configuration: the file, and, where a line begins with "--set ", a setting. What is
// accepted is written again so that it reads the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "headrace/base/error.h"
#include "headrace/base/text.h"
#include "headrace/train/config/config.h"
#include "tests/fuzz/text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::string_view kSet = "--set ";
  std::string toml;
  std::vector<std::string> settings;
  for (const std::string& line : headrace::split_text(headrace::text_of(data, size), '\n')) {
    if (line.starts_with(kSet)) {
      settings.push_back(line.substr(kSet.size()));
    } else {
      toml += line + "\n";
    }
  }
  try {
    const headrace::Config config = headrace::parse_config(toml, "fuzz", settings);
    const std::string text = headrace::to_toml(config);
    headrace::require(headrace::to_toml(headrace::parse_config(text, "again", {})) == text);
  } catch (const headrace::Error&) {  // refused
  }
  return 0;
}
