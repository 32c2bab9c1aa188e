#include "headrace/checkpoint/safetensors.h"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string length_of(std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes;
}

std::string file_of(const std::string& header, std::size_t data) {
  return length_of(header.size()) + header + std::string(data, 'x');
}

std::string error_of_file(const std::string& bytes) {
  return error_of<Error>([&] { parse_safetensors(bytes_of(bytes), "hostile"); });
}

TEST(Safetensors, KeepsNamesTypesShapesAndBytes) {
  const Folder folder;
  const std::vector<float> numbers = {1, 2, 3, 4, 5, 6};
  const std::vector<std::uint8_t> small = {7, 8, 9};
  SafetensorsWriter writer(folder / "a", {{"b.weight", Dtype::F32, {2, 3}},
                                          {"empty", Dtype::F64, {0, 5}},
                                          {"a \"quoted\" näme", Dtype::U8, {3}},
                                          {"scalar", Dtype::I8, {}}});
  writer.append(std::as_bytes(std::span(numbers)));
  writer.append({});
  writer.append(std::as_bytes(std::span(small)));
  writer.append(std::as_bytes(std::span(small).first(1)));
  const FileRecord record = writer.finish();

  const SafetensorsFile file(folder / "a");
  EXPECT_EQ(record.name, "a");
  EXPECT_EQ(record.bytes, fs::file_size(folder / "a"));
  EXPECT_EQ(record.checksum, checksum_of(file.bytes()));
  ASSERT_EQ(record.tensors.size(), 4);
  for (const TensorView& tensor : file.tensors())
    EXPECT_EQ(record.tensors.at(tensor.name), checksum_of(tensor.bytes)) << tensor.name;
  ASSERT_EQ(file.tensors().size(), 4);
  const TensorView* weight = file.find("b.weight");
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->shape, (std::vector<std::uint64_t>{2, 3}));
  EXPECT_EQ(weight->dtype, Dtype::F32);
  EXPECT_EQ(0, std::memcmp(weight->bytes.data(), numbers.data(), 24));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(weight->bytes.data()) % 64, 0);
  EXPECT_TRUE(file.find("empty")->bytes.empty());
  EXPECT_EQ(file.find("a \"quoted\" näme")->bytes.size(), 3);
  EXPECT_EQ(file.find("b"), nullptr);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
}

TEST(Safetensors, EveryTypeIsReadByItsName) {
  for (const auto& [name, size] : std::vector<std::pair<std::string, int>>{{"BOOL", 1},
                                                                           {"U8", 1},
                                                                           {"I8", 1},
                                                                           {"F8_E5M2", 1},
                                                                           {"F8_E4M3", 1},
                                                                           {"I16", 2},
                                                                           {"U16", 2},
                                                                           {"F16", 2},
                                                                           {"BF16", 2},
                                                                           {"I32", 4},
                                                                           {"U32", 4},
                                                                           {"F32", 4},
                                                                           {"I64", 8},
                                                                           {"U64", 8},
                                                                           {"F64", 8}}) {
    const std::string file =
        file_of(R"({"a":{"dtype":")" + name + R"(","shape":[3],"data_offsets":[0,)" +
                    std::to_string(3 * size) + "]}}  ",
                static_cast<std::size_t>(3 * size));
    const SafetensorsHeader header = parse_safetensors(bytes_of(file), "a");
    ASSERT_EQ(header.tensors.size(), 1) << name;
    EXPECT_EQ(to_string(header.tensors[0].dtype), name);
  }
}

TEST(Safetensors, NumbersOfEveryTypeAsDoubles) {
  const auto value = [](Dtype dtype, auto number) {
    return value_at(dtype, std::as_bytes(std::span(&number, 1)), 0);
  };
  EXPECT_EQ(value(Dtype::F32, 1.5F), 1.5);
  EXPECT_EQ(value(Dtype::F64, -2.25), -2.25);
  EXPECT_EQ(value(Dtype::BF16, std::uint16_t{0x3fc0}), 1.5);
  EXPECT_EQ(value(Dtype::F16, std::uint16_t{0x3e00}), 1.5);
  EXPECT_EQ(value(Dtype::F16, std::uint16_t{0xc000}), -2);
  EXPECT_EQ(value(Dtype::F16, std::uint16_t{0x0001}), std::ldexp(1, -24));
  EXPECT_EQ(value(Dtype::F16, std::uint16_t{0x7bff}), 65504);
  EXPECT_EQ(value(Dtype::F16, std::uint16_t{0x7c00}), std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(value(Dtype::F16, std::uint16_t{0x7e00})));
  EXPECT_EQ(value(Dtype::I64, std::int64_t{-7}), -7);
  EXPECT_EQ(value(Dtype::U16, std::uint16_t{65535}), 65535);
}

TEST(SafetensorsAttack, LengthsThatAreNone) {
  EXPECT_THAT(error_of_file(""), HasSubstr("cut short: it has 0 bytes"));
  EXPECT_THAT(error_of_file("1234567"), HasSubstr("cut short: it has 7 bytes"));
  EXPECT_THAT(error_of_file(length_of(std::uint64_t{1} << 63) + "{}"),
              HasSubstr("its header would have 9223372036854775808 bytes"));
  EXPECT_THAT(error_of_file(length_of(std::numeric_limits<std::uint64_t>::max()) + "{}"),
              HasSubstr("18446744073709551615 bytes, and 100000000 are the most"));
  EXPECT_THAT(error_of_file(length_of(100'000'001) + "{}"), HasSubstr("100000000 are the most"));
  EXPECT_THAT(error_of_file(length_of(3) + "{}"), HasSubstr("cut short: its header has 3 bytes"));
  EXPECT_THAT(error_of_file(length_of(0)), HasSubstr("does not begin with {"));
  EXPECT_EQ(error_of_file(length_of(2) + "{}"), "");  // no tensors
}

TEST(SafetensorsAttack, HeadersOfAnotherForm) {
  const std::string good = R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"[]", "does not begin with {"},
      {" {}", "does not begin with {"},
      {"\xef\xbb\xbf{}", "does not begin with {"},
      {"{", "is not JSON"},
      {"{} x", "is not JSON"},
      {"{}{}", "is not JSON"},
      {R"({"a":1})", "tensor \"a\" has a number where something else must stand"},
      {R"({"a":null})", "has null"},
      {R"({"a":true})", "has true or false"},
      {R"({"a":"x"})", "has text"},
      {R"({"a":[]})", "has a list"},
      {R"({"a":{}})", "tensor \"a\" lacks dtype"},
      {R"({"a":{"dtype":"U8","data_offsets":[0,0]}})", "lacks shape"},
      {R"({"a":{"dtype":"U8","shape":[0]}})", "lacks data_offsets"},
      {R"({"a":{"dtype":{}}})", "has an object"},
      {R"({"a":{"dtype":1}})", "has a number"},
      {R"({"a":{"dtype":["U8"]}})", "has a list"},
      {R"({"a":{"dtype":"F4"}})", "is of type \"F4\", which is not known"},
      {R"({"a":{"dtype":"u8"}})", "is of type \"u8\", which is not known"},
      {R"({"a":{"dtype":"U8","dtype":"U8"}})", "has dtype twice"},
      {R"({"a":{"dtype":"U8","shape":[],"shape":[]}})", "has shape twice"},
      {R"({"a":{"strides":[1]}})", "has a field \"strides\", which is not known"},
      {R"({"a":{"shape":1}})", "has a number"},
      {R"({"a":{"shape":[[1]]}})", "has a list"},
      {R"({"a":{"shape":[{}]}})", "has an object"},
      {R"({"a":{"shape":["1"]}})", "has text"},
      {R"({"a":{"shape":[-1]}})", "has a number below 0"},
      {R"({"a":{"shape":[1.0]}})", "has a number that is not whole"},
      {R"({"a":{"shape":[18446744073709551616]}})", "has a number that is not whole"},
      {R"({"a":{"shape":[1e999]}})", "is not JSON"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0]}})", "has 1 offsets"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}})", "more than 2 offsets"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,-4]}})", "has a number below 0"},
      {R"({"":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "a tensor without a name"},
      {"{" + good + "," + good + "}", "its header has \"b\" twice"},
      {R"({"__metadata__":{"a":1}})", "its metadata has a number"},
      {R"({"__metadata__":{"a":{}}})", "its metadata has an object"},
      {R"({"__metadata__":[]})", "its metadata has a list"},
      {R"({"__metadata__":"a"})", "its metadata has text"},
      {R"({"__metadata__":{"a":"1","a":"2"}})", "its metadata has \"a\" twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", "its header has \"__metadata__\" twice"},
      {"{\"a\xff\":{}}", "that is not UTF-8"},
      {"{\"a\xc0\xaf\":{}}", "that is not UTF-8"},
      {"{\"\xed\xa0\x80\":{}}", "that is not UTF-8"},
      {std::string("{\"a\0\":{}}", 9), "is not JSON"},
      {R"({"\ud800":{}})", "is not JSON"},
  };
  for (const auto& [header, message] : cases) {
    const std::string error = error_of_file(file_of(header, 4));
    EXPECT_THAT(error, HasSubstr(message)) << header;
    EXPECT_THAT(error, HasSubstr("hostile")) << header;
  }
  EXPECT_EQ(error_of_file(file_of("{" + good + "}", 4)), "");
  EXPECT_EQ(error_of_file(file_of(R"({"__metadata__":{"a":"1"},)" + good + "}   ", 4)), "");
}

TEST(SafetensorsAttack, BytesThatDoNotFit) {
  const auto tensor = [](const std::string& name, const std::string& dtype,
                         const std::string& shape, const std::string& offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape +
           R"(],"data_offsets":[)" + offsets + "]}";
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {tensor("a", "U8", "4", "0,4"), "has 4 bytes after its last tensor"},
      {tensor("a", "U8", "9", "0,9"), "cut short: tensor \"a\" lies at 0 to 9, and there are 8"},
      {tensor("a", "U8", "8", "8,0"), "ends before it begins"},
      {tensor("a", "U8", "8", "18446744073709551608,18446744073709551615"), "cut short"},
      {tensor("a", "F32", "8", "0,8"), "its type F32 and its shape do not make"},
      {tensor("a", "F32", "2,2", "0,8"), "its type F32 and its shape do not make"},
      {tensor("a", "F64", "2305843009213693953", "0,8"), "do not make"},
      {tensor("a", "U8", "4294967296,4294967296,8", "0,8"), "do not make"},
      {tensor("a", "U8", "18446744073709551615,18446744073709551615", "0,8"), "do not make"},
      {tensor("a", "U8", "18446744073709551615,0,3", "0,8"), "do not make"},
      {tensor("a", "U8", "6", "0,6") + "," + tensor("b", "U8", "4", "4,8"),
       "tensor \"b\" overlaps another at 4"},
      {tensor("a", "U8", "8", "0,8") + "," + tensor("b", "U8", "8", "0,8"), "overlaps"},
      {tensor("a", "U8", "3", "0,3") + "," + tensor("b", "U8", "4", "4,8"),
       "a hole of 1 bytes before tensor \"b\""},
      {tensor("a", "U8", "4", "4,8"), "a hole of 4 bytes before tensor \"a\""},
      {tensor("e", "U8", "0", "5,5") + "," + tensor("a", "U8", "8", "0,8"),
       "overlaps another at 5"},
  };
  for (const auto& [header, message] : cases)
    EXPECT_THAT(error_of_file(file_of("{" + header + "}", 8)), HasSubstr(message)) << header;
  const std::string empty = tensor("e", "U8", "7,0", "4,4") + "," + tensor("b", "U8", "4", "4,8") +
                            "," + tensor("a", "U8", "4", "0,4") + "," +
                            tensor("z", "F32", "0", "8,8");
  EXPECT_EQ(error_of_file(file_of("{" + empty + "}", 8)), "");
}

// Deep or wide: refused where it stands.
TEST(SafetensorsAttack, BombsAreRefused) {
  const std::size_t deep = 5'000'000;
  EXPECT_THAT(error_of_file(file_of("{\"a\":" + std::string(deep, '['), 0)),
              HasSubstr("has a list"));
  std::string objects;
  for (std::size_t i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_THAT(error_of_file(file_of(objects, 0)), HasSubstr("has a field \"a\""));
  std::string dimensions = R"({"a":{"dtype":"U8","shape":[1)";
  for (int i = 0; i < 64; ++i) dimensions += ",1";
  EXPECT_THAT(error_of_file(file_of(dimensions + R"(],"data_offsets":[0,1]}})", 1)),
              HasSubstr("more than 64 dimensions"));
  const std::string name(1'000'000, 'n');
  EXPECT_LT(error_of_file(file_of("{\"" + name + "\":1}", 0)).size(), 400);
}

TEST(SafetensorsAttack, EveryCutIsRefused) {
  const Folder folder;
  const std::vector<float> numbers(40, 1);
  SafetensorsWriter writer(folder / "a", {{"a", Dtype::F32, {30}}, {"b", Dtype::F32, {10}}});
  writer.append(std::as_bytes(std::span(numbers).first(30)));
  writer.append(std::as_bytes(std::span(numbers).last(10)));
  writer.finish();
  const std::string bytes = Folder::read(folder / "a");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const fs::path cut = folder.write("cut", bytes.substr(0, size));
    EXPECT_THAT(error_of<Error>([&] { const SafetensorsFile file(cut); }),
                HasSubstr(cut.string() + " is cut short"))
        << size;
  }
  EXPECT_THAT(error_of<Error>([&] { SafetensorsFile(folder.write("long", bytes + "x")); }),
              HasSubstr("has 1 bytes after its last tensor"));
}

TEST(SafetensorsAttack, WhatIsNoFileIsNamed) {
  const Folder folder;
  EXPECT_THAT(error_of<Error>([&] { SafetensorsFile(folder / "missing"); }),
              HasSubstr("missing: No such file"));
  EXPECT_THAT(error_of<Error>([&] { SafetensorsFile(folder / "."); }), HasSubstr("is no file"));
  EXPECT_THAT(error_of<Error>([&] { SafetensorsFile(folder / "missing/a"); }),
              HasSubstr("No such file"));
}

}  // namespace
}  // namespace headrace
