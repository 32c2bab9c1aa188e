// One set of records, printed as text, Markdown, CSV or JSON.
//
//   Table table({{.name = "ranks"}, {.name = "bubble", .digits = 4}});
//   table.add({4, 0.2727});
//   std::cout << table.print(Format::Text);
//
// Text and Markdown are for reading: columns aligned, numbers to the right, with the column's
// digits. CSV and JSON are for programs: full precision; JSON is an array of objects.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace headrace {

enum class Format : std::uint8_t { Text, Markdown, Csv, Json };

// "text", "md", "csv" or "json"; throws UsageError.
Format parse_format(std::string_view text);

struct Column {
  std::string name;
  int digits = -1;  // after the point, in text and Markdown; -1: as few as show the number
};

// A cell may hold a list, as peaks by rank: "4 3 2 1", in JSON an array.
using Cell = std::variant<std::string, std::int64_t, double, std::vector<double>>;

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<Cell> row);
  std::string print(Format format) const;

 private:
  std::string json() const;
  std::string csv() const;
  std::string aligned(Format format) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace headrace
