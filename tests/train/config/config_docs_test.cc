// docs/configuration.md holds the table of keys, word for word.
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/train/config/config.h"
#include "headrace/train/config/keys.h"

namespace headrace {
namespace {

std::string row(const Key& key) {
  const Config fresh;
  const std::string value = is_unset(key, fresh) ? "" : cat("`", toml_text(key.get(fresh)), "`");
  return cat("| `", key.name, "` | ", value, " | ", key.expected, " | ", key.help, " |");
}

TEST(ConfigDocs, NameEveryKeyWithItsDefault) {
  std::ifstream file(HEADRACE_SOURCE_DIR "/docs/configuration.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  std::string table;
  for (const std::string& section : sections()) {
    std::string expected = cat("## [", section, "]\n\n| key | default | takes | what |\n",
                               "| --- | --- | --- | --- |\n");
    for (const Key& key : keys())
      if (key.section == section) expected += row(key) + "\n";
    EXPECT_NE(page.find(expected), std::string::npos) << "it must hold\n" << expected;
  }
}

}  // namespace
}  // namespace headrace
