#include "headrace/base/table.h"

#include <vector>

#include <gtest/gtest.h>

#include "headrace/base/error.h"

namespace headrace {
namespace {

Table sample() {
  Table table({{.name = "schedule"}, {.name = "bubble", .digits = 2}, {.name = "peaks"}});
  table.add({"1f1b", 0.125, std::vector<double>{4, 3.5}});
  table.add({"a, \"b\"", 10.0, std::vector<double>{1}});
  return table;
}

TEST(Table, PrintsOneSetOfRecordsFourWays) {
  EXPECT_EQ(sample().print(Format::Text),
            "schedule  bubble  peaks\n"
            "1f1b        0.12  4 3.5\n"
            "a, \"b\"     10.00      1\n");
  EXPECT_EQ(sample().print(Format::Markdown),
            "| schedule | bubble | peaks |\n"
            "| -------- | -----: | ----: |\n"
            "| 1f1b     |   0.12 | 4 3.5 |\n"
            "| a, \"b\"   |  10.00 |     1 |\n");
  EXPECT_EQ(sample().print(Format::Csv),
            "schedule,bubble,peaks\n1f1b,0.125,4 3.5\n\"a, \"\"b\"\"\",10,1\n");
  EXPECT_EQ(sample().print(Format::Json),
            "[\n {\"schedule\":\"1f1b\",\"bubble\":0.125,\"peaks\":[4,3.5]},\n"
            " {\"schedule\":\"a, \\\"b\\\"\",\"bubble\":10,\"peaks\":[1]}\n]\n");
}

TEST(Table, WithoutRowsStillSaysItsColumns) {
  const Table table({{.name = "a"}});
  EXPECT_EQ(table.print(Format::Csv), "a\n");
  EXPECT_EQ(table.print(Format::Json), "[\n]\n");
}

TEST(Format, IsReadByName) {
  EXPECT_EQ(parse_format("md"), Format::Markdown);
  EXPECT_THROW(parse_format("xml"), UsageError);
}

}  // namespace
}  // namespace headrace
