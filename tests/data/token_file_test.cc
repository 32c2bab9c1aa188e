#include "headrace/data/token_file.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "tests/data/folder.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr std::size_t kHeader = 40;

std::vector<std::int64_t> all(const TokenFile& file) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(file.size()));
  file.read(0, ids);
  return ids;
}

std::string open_error(const fs::path& path) {
  return error_of<Error>([&] { const TokenFile file(path); });
}

// Makes the checksum right again after an attack on something else.
std::string signed_again(std::string bytes) {
  const std::string checked = bytes.substr(kHeader) + bytes.substr(0, 32);
  const std::uint64_t sum = XXH3_64bits(checked.data(), checked.size());
  bytes.replace(32, 8, reinterpret_cast<const char*>(&sum), 8);
  return bytes;
}

TEST(TokenFile, KeepsIdsOfEveryWidth) {
  const Folder folder;
  for (const auto& [vocabulary, width] :
       std::vector<std::pair<int, int>>{{2, 1}, {256, 1}, {257, 2}, {65536, 2}, {65537, 4}}) {
    std::vector<std::int32_t> ids(100000);
    for (std::size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<std::int32_t>((i * 7919) % static_cast<std::size_t>(vocabulary));
    ids.back() = vocabulary - 1;
    const fs::path path = folder / "ids.tokens";
    write_token_file(path, ids, vocabulary);
    EXPECT_EQ(fs::file_size(path), kHeader + ids.size() * static_cast<std::size_t>(width));
    const TokenFile file(path);
    EXPECT_EQ(file.vocabulary(), vocabulary);
    EXPECT_EQ(all(file), std::vector<std::int64_t>(ids.begin(), ids.end()));
    std::vector<std::int64_t> middle(3);
    file.read(50, middle);
    EXPECT_EQ(middle, std::vector<std::int64_t>(ids.begin() + 50, ids.begin() + 53));
  }
}

TEST(TokenFile, MayBeEmpty) {
  const Folder folder;
  write_token_file(folder / "none.tokens", {}, 256);
  EXPECT_EQ(TokenFile(folder / "none.tokens").size(), 0);
}

TEST(TokenFile, EqualFilesHaveEqualChecksums) {
  const Folder folder;
  const std::vector<std::int32_t> ids = {1, 2, 3};
  const std::vector<std::int32_t> other = {1, 2, 4};
  write_token_file(folder / "a", ids, 256);
  write_token_file(folder / "b", ids, 256);
  write_token_file(folder / "c", other, 256);
  write_token_file(folder / "d", ids, 255);
  const TokenFile a(folder / "a");
  EXPECT_EQ(a.checksum(), TokenFile(folder / "b").checksum());
  EXPECT_NE(a.checksum(), TokenFile(folder / "c").checksum());
  EXPECT_NE(a.checksum(), TokenFile(folder / "d").checksum());
}

TEST(TokenFile, BytesAreAsDocumented) {
  const Folder folder;
  const std::vector<std::int32_t> ids = {7, 300};
  write_token_file(folder / "a", ids, 1000);
  const std::string bytes = Folder::read(folder / "a");
  EXPECT_EQ(bytes.substr(0, 8), "HRTOKENS");
  EXPECT_EQ(bytes.substr(8, 8), std::string("\1\0\0\0\2\0\0\0", 8));
  EXPECT_EQ(bytes.substr(16, 16), std::string("\xe8\3\0\0\0\0\0\0\2\0\0\0\0\0\0\0", 16));
  EXPECT_EQ(bytes.substr(40), std::string("\7\0\54\1", 4));
  EXPECT_EQ(signed_again(bytes), bytes);
}

TEST(TokenFileAttack, EveryCutIsRefused) {
  const Folder folder;
  std::vector<std::int32_t> ids(20);
  std::iota(ids.begin(), ids.end(), 0);
  write_token_file(folder / "a", ids, 1000);
  const std::string bytes = Folder::read(folder / "a");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const fs::path cut = folder.write("cut", bytes.substr(0, size));
    const std::string error = open_error(cut);
    EXPECT_THAT(error, HasSubstr(cut.string())) << size;
    if (size > 0) {
      EXPECT_THAT(error, HasSubstr("cut short")) << size;
    }
  }
  EXPECT_THAT(open_error(folder.write("long", bytes + "x")), HasSubstr("damaged"));
  EXPECT_THAT(open_error(folder.write("long", bytes + "xx")), HasSubstr("damaged"));
}

TEST(TokenFileAttack, EveryChangedBitIsRefused) {
  const Folder folder;
  const std::vector<std::int32_t> ids = {1, 2, 3, 4, 5};
  write_token_file(folder / "a", ids, 256);
  const std::string bytes = Folder::read(folder / "a");
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string changed = bytes;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    const fs::path path = folder.write("changed", changed);
    EXPECT_THAT(open_error(path), HasSubstr(path.string())) << bit;
  }
}

TEST(TokenFileAttack, ForeignFilesAreRefused) {
  const Folder folder;
  EXPECT_THAT(open_error(folder.write("a", "To be, or not to be: that is the question: whether")),
              HasSubstr("is not a token file"));
  EXPECT_THAT(open_error(folder.write("empty", "")), HasSubstr("it is empty"));
  EXPECT_THAT(open_error(folder / "."), HasSubstr("is not a token file"));
  EXPECT_THAT(open_error(folder / "missing"), HasSubstr("No such file"));
}

TEST(TokenFileAttack, OtherVersionsAndWidthsAreRefused) {
  const Folder folder;
  const std::vector<std::int32_t> ids = {1, 2};
  write_token_file(folder / "a", ids, 256);
  const std::string bytes = Folder::read(folder / "a");
  std::string newer = bytes;
  newer[8] = 2;
  EXPECT_THAT(open_error(folder.write("newer", signed_again(newer))),
              AllOf(HasSubstr("version 2"), HasSubstr("version 1")));
  std::string wide = bytes;
  wide[12] = 3;
  EXPECT_THAT(open_error(folder.write("wide", signed_again(wide))), HasSubstr("3 bytes"));
  std::string none = bytes;
  none[12] = 0;
  EXPECT_THAT(open_error(folder.write("none", signed_again(none))), HasSubstr("0 bytes"));
  std::string huge = bytes;
  huge[31] = static_cast<char>(0xff);
  EXPECT_THAT(open_error(folder.write("huge", signed_again(huge))), HasSubstr("cut short"));
}

TEST(TokenFileAttack, AnIdOutsideIsNamedWithFileAndPosition) {
  const Folder folder;
  const std::vector<std::int32_t> ids = {1, 2, 199, 3};
  const fs::path path = folder / "a";
  write_token_file(path, ids, 200);
  std::string bytes = Folder::read(path);
  bytes[42] = static_cast<char>(200);
  EXPECT_THAT(open_error(folder.write("b", signed_again(bytes))),
              AllOf(HasSubstr((folder / "b").string()), HasSubstr("token 2 has id 200")));

  const TokenFile file(path);
  file.require_below(200);
  EXPECT_THAT(
      error_of<Error>([&] { file.require_below(199); }),
      AllOf(HasSubstr(path.string()), HasSubstr("token 2 has id 199"), HasSubstr("199 ids")));
}

TEST(TokenWriter, RefusesIdsOutside) {
  const Folder folder;
  for (const std::int32_t bad : {200, -1}) {
    const std::vector<std::int32_t> ids = {0, bad};
    EXPECT_THAT(error_of<Error>([&] { write_token_file(folder / "a", ids, 200); }),
                HasSubstr("token 1 has id " + std::to_string(bad)));
  }
  EXPECT_TRUE(fs::is_empty(folder / "."));
}

TEST(TokenWriter, WholeOrNotAtAll) {
  const Folder folder;
  const std::vector<std::int32_t> ids = {1, 2, 3};
  write_token_file(folder / "a", ids, 256);
  {
    TokenWriter writer(folder / "a", 256);
    writer.append(ids);
    EXPECT_EQ(TokenFile(folder / "a").size(), 3);
    writer.append(ids);
  }  // given up
  EXPECT_EQ(TokenFile(folder / "a").size(), 3);
  TokenWriter writer(folder / "a", 256);
  writer.append(ids);
  writer.append(ids);
  writer.finish();
  EXPECT_EQ(TokenFile(folder / "a").size(), 6);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "."), {}), 1);
  EXPECT_THAT(error_of<Error>([&] { TokenWriter(folder / "missing/a", 256); }),
              HasSubstr("No such file"));
}

}  // namespace
}  // namespace headrace
