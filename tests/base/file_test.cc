#include "headrace/base/file.h"

#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

TEST(File, IsWrittenWholeAndReadBack) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "headrace_file";
  std::filesystem::create_directories(folder);
  const std::string path = (folder / "a.txt").string();
  write_file(path, "one");
  write_file(path, std::string("two\0three", 9));
  EXPECT_EQ(read_file(path), std::string("two\0three", 9));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
  std::filesystem::remove_all(folder);
}

TEST(File, ErrorsNamePathAndReason) {
  EXPECT_THAT(
      [] { read_file("/no/such/file"); },
      testing::ThrowsMessage<Error>("cannot read /no/such/file: No such file or directory"));
  EXPECT_THAT([] { read_file("/"); },
              testing::ThrowsMessage<Error>("cannot read /: it is a directory"));
  EXPECT_THAT(
      [] { write_file("/no/such/file", ""); },
      testing::ThrowsMessage<Error>("cannot write /no/such/file: No such file or directory"));
}

}  // namespace
}  // namespace headrace
