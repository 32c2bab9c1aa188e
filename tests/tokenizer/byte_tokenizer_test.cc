#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/tokenizer/tokenizer.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

using testing::HasSubstr;

TEST(ByteTokenizer, EveryByteIsItsOwnId) {
  std::string text;
  for (int i = 0; i < 256; ++i) text.push_back(static_cast<char>(i));
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer("byte");
  const std::vector<std::int32_t> ids = tokenizer->encode(text);
  ASSERT_EQ(ids.size(), 256u);
  for (int i = 0; i < 256; ++i) EXPECT_EQ(ids.at(static_cast<std::size_t>(i)), i);
  EXPECT_EQ(tokenizer->decode(ids), text);
  EXPECT_EQ(tokenizer->vocabulary(), 256);
  EXPECT_EQ(tokenizer->name(), "byte");
}

TEST(ByteTokenizer, AnIdOutsideIsNamed) {
  const auto tokenizer = make_tokenizer("byte");
  const std::vector<std::int32_t> ids = {1, 256};
  EXPECT_THAT(error_of<Error>([&] { tokenizer->decode(ids); }), HasSubstr("token 1"));
  const std::vector<std::int32_t> negative = {-1};
  EXPECT_THAT(error_of<Error>([&] { tokenizer->decode(negative); }), HasSubstr("id -1"));
}

TEST(MakeTokenizer, NamesTheNearest) {
  EXPECT_THAT(error_of<UsageError>([] { make_tokenizer("bytes"); }),
              HasSubstr("did you mean 'byte'?"));
}

}  // namespace
}  // namespace headrace
