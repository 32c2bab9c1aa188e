// The pictures of docs/schedules.md are what the program draws.
#include <array>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace headrace {
namespace {

std::string output_of(const std::string& command) {
  std::string text;
  std::FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return text;
  std::array<char, 4096> part{};
  while (std::fgets(part.data(), static_cast<int>(part.size()), pipe) != nullptr)
    text += part.data();
  EXPECT_EQ(pclose(pipe), 0) << command;
  return text;
}

TEST(Pictures, AreWhatTheProgramDraws) {
  std::ifstream page(HEADRACE_SOURCE_DIR "/docs/schedules.md");
  ASSERT_TRUE(page.good());
  const std::string prompt = "$ headrace ";
  std::string drawn;
  std::string command;
  int pictures = 0;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with(prompt)) {
      command = line.substr(prompt.size());
      drawn = output_of(HEADRACE_PROGRAM " " + command);
      ++pictures;
    } else if (line == "```") {
      drawn.clear();
    } else if (!drawn.empty()) {
      EXPECT_NE(drawn.find(line), std::string::npos) << command << "\nlacks: " << line << "\n"
                                                     << drawn;
    }
  }
  EXPECT_EQ(pictures, 21);
}

}  // namespace
}  // namespace headrace
