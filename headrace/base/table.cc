#include "headrace/base/table.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "headrace/base/error.h"
#include "headrace/base/text.h"

namespace headrace {
namespace {

// The shortest text that reads back as the same number.
std::string shortest(double value) {
  std::array<char, 40> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return error == std::errc() ? std::string(buffer.data(), end) : "nan";
}

std::string number_text(double value, int digits) {
  return digits >= 0 ? fixed_text(value, digits) : shortest(value);
}

std::string cell_text(const Cell& cell, int digits) {
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* integer = std::get_if<std::int64_t>(&cell)) return std::to_string(*integer);
  if (const auto* number = std::get_if<double>(&cell)) return number_text(*number, digits);
  std::vector<std::string> parts;
  for (const double value : std::get<std::vector<double>>(cell))
    parts.push_back(number_text(value, digits));
  return join_text(parts, " ");
}

std::string csv_quoted(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

// A double that is whole is written as an integer, as people expect of counts and unit times.
nlohmann::ordered_json json_number(double value) {
  constexpr double kExact = 9007199254740992;  // 2^53
  if (std::abs(value) < kExact && value == std::floor(value))
    return static_cast<std::int64_t>(value);
  return value;
}

}  // namespace

Format parse_format(std::string_view text) {
  if (text == "text") return Format::Text;
  if (text == "md") return Format::Markdown;
  if (text == "csv") return Format::Csv;
  if (text == "json") return Format::Json;
  throw UsageError(cat("--format is '", text, "'; it must be text, md, csv or json"));
}

void Table::add(std::vector<Cell> row) {
  assert(row.size() == columns_.size());
  rows_.push_back(std::move(row));
}

std::string Table::print(Format format) const {
  switch (format) {
    case Format::Json:
      return json();
    case Format::Csv:
      return csv();
    default:
      return aligned(format);
  }
}

std::string Table::json() const {
  std::string text = "[";
  for (const std::vector<Cell>& row : rows_) {
    nlohmann::ordered_json record = nlohmann::ordered_json::object();
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      nlohmann::ordered_json& value = record[columns_[i].name];
      if (const auto* number = std::get_if<double>(&row[i])) {
        value = json_number(*number);
      } else if (const auto* list = std::get_if<std::vector<double>>(&row[i])) {
        value = nlohmann::ordered_json::array();
        for (const double part : *list) value.push_back(json_number(part));
      } else if (const auto* integer = std::get_if<std::int64_t>(&row[i])) {
        value = *integer;
      } else {
        value = std::get<std::string>(row[i]);
      }
    }
    text += text.size() > 1 ? ",\n " : "\n ";
    text += record.dump();
  }
  return text + "\n]\n";
}

std::string Table::csv() const {
  std::string text;
  for (std::size_t i = 0; i < columns_.size(); ++i)
    text += (i > 0 ? "," : "") + csv_quoted(columns_[i].name);
  text += '\n';
  for (const std::vector<Cell>& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i)
      text += (i > 0 ? "," : "") + csv_quoted(cell_text(row[i], -1));
    text += '\n';
  }
  return text;
}

std::string Table::aligned(Format format) const {
  const bool markdown = format == Format::Markdown;
  std::vector<std::size_t> widths;
  std::vector<bool> left;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t width = columns_[i].name.size();
    bool words = false;
    for (const std::vector<Cell>& row : rows_) {
      width = std::max(width, cell_text(row[i], columns_[i].digits).size());
      words = words || std::holds_alternative<std::string>(row[i]);
    }
    widths.push_back(width);
    left.push_back(words);
  }
  std::string text;
  const auto add_line = [&](auto&& cell) {
    std::string line;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const std::string content = cell(i);
      const std::string padding(widths[i] - content.size(), ' ');
      line += markdown ? (i == 0 ? "| " : " | ") : (i == 0 ? "" : "  ");
      line += left[i] ? content + padding : padding + content;
    }
    if (markdown) line += " |";
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  };
  add_line([&](std::size_t i) { return columns_[i].name; });
  if (markdown) {
    add_line([&](std::size_t i) {
      std::string rule(widths[i], '-');
      if (!left[i]) rule.back() = ':';
      return rule;
    });
  }
  for (const std::vector<Cell>& row : rows_)
    add_line([&](std::size_t i) { return cell_text(row[i], columns_[i].digits); });
  return text;
}

}  // namespace headrace
