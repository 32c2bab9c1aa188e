// The JSON files of a checkpoint, and of others.
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/checkpoint/manifest.h"
#include "headrace/checkpoint/shards.h"
#include "headrace/checkpoint/state.h"
#include "tests/data/folder.h"

namespace headrace {
namespace {

using testing::HasSubstr;

TEST(CheckpointState, KeepsEveryNumberToTheBit) {
  const CheckpointState state{
      .step = std::numeric_limits<std::int64_t>::max(),
      .samples = 7,
      .seed = std::numeric_limits<std::uint64_t>::max(),
      .first = true,
      .numbers = {{"loss_scale", 65536}, {"third", 1.0 / 3}, {"tiny", 5e-324}, {"minus", -0.1}}};
  EXPECT_EQ(parse_state(to_json(state), "state.json"), state);
  EXPECT_EQ(parse_state(to_json(CheckpointState{}), "state.json"), CheckpointState{});
  CheckpointState infinite;
  infinite.numbers["loss_scale"] = std::numeric_limits<double>::infinity();
  EXPECT_THAT(error_of<Error>([&] { to_json(infinite); }), HasSubstr("loss_scale is inf"));
}

TEST(CheckpointState, IsReadStrictly) {
  const std::string good = to_json(CheckpointState{.step = 3, .numbers = {{"updates", 3}}});
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "is not JSON"},
      {"[]", "it is not an object"},
      {good + "x", "is not JSON"},
      {with("\"version\": 1", "\"version\": 2"), "is of version 2"},
      {with("\"step\": 3", "\"step\": -3"), "step must be a whole number, 0 or more; it is \"-3\""},
      {with("\"step\": 3", "\"step\": 3.0"), "step must be a whole number"},
      {with("\"step\": 3", "\"step\": \"3\""), "step must be a whole number"},
      {with("\"step\": 3", "\"step\": 9223372036854775808"), "step must be a whole number"},
      {with("\"step\": 3", "\"stop\": 3"), "lacks step"},
      {with("\"step\": 3", "\"step\": 3, \"step\": 3"), "has \"step\" twice"},
      {with("\"step\": 3", "\"step\": 3, \"stop\": 3"), "has \"stop\", which is not known"},
      {with("\"seed\": 0", "\"seed\": -1"), "seed must be a whole number"},
      {with("\"first\": false", "\"first\": 0"), "first must be true or false"},
      {with("\"updates\": 3.0", "\"updates\": null"), "numbers.updates is not a number"},
      {with("\"updates\": 3.0", "\"updates\": 1e999"), "a number that is too large"},
      {with("updates", "\xff"), "that is not UTF-8"},
      {std::string(100, '['), "nested deeper than 16"},
      {std::string((std::size_t{16} << 20) + 1, ' '), "are the most that is read"},
  };
  for (const auto& [text, message] : cases)
    EXPECT_THAT(error_of<Error>([&] { parse_state(text, "state.json"); }),
                testing::AllOf(HasSubstr(message), HasSubstr("state.json")))
        << text.substr(0, 200);
}

TEST(CheckpointManifest, NoByteMayChange) {
  const Manifest manifest = {{"a.json", 12, std::string(32, 'a')},
                             {"model-00001-of-00002.safetensors", 1 << 20, std::string(32, '0')}};
  const std::string text = to_json(manifest);
  EXPECT_EQ(parse_manifest(text, "checksums.json"), manifest);
  for (std::size_t i = 0; i < text.size(); ++i)
    for (const int bit : {0, 1, 5, 7}) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      Manifest read;
      const std::string error =
          error_of<Error>([&] { read = parse_manifest(changed, "checksums.json"); });
      // What is still a manifest is another one.
      EXPECT_TRUE(!error.empty() || read != manifest) << i << " " << bit;
    }
}

TEST(CheckpointManifest, NamesNothingElsewhere) {
  for (const std::string name : {"../a", "/etc/passwd", "a/b", "..", ".", ""})
    EXPECT_THAT(error_of<Error>([&] {
                  parse_manifest(to_json({{name, 1, std::string(32, 'a')}}), "checksums.json");
                }),
                HasSubstr("which is not the name of a file"))
        << name;
}

TEST(CheckpointIndex, IsReadStrictly) {
  const Folder folder;
  EXPECT_THAT(error_of<Error>([&] { Shards(folder / "."); }), HasSubstr("no weights lie in"));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{}", "lacks weight_map"},
      {R"({"weight_map":[]})", "weight_map is not an object"},
      {R"({"weight_map":{"a":1}})", "the file of \"a\" is not text"},
      {R"({"weight_map":{"a":"../model.safetensors"}})", "is not called model"},
      {R"({"weight_map":{"a":"model/../../x.safetensors"}})", "is not called model"},
      {R"({"weight_map":{"a":"state.json"}})", "is not called model"},
      {R"({"weight_map":{"a":"model-1.safetensors","a":"model-1.safetensors"}})", "\"a\" twice"},
      {R"({"weight_map":{},"metadata":1})", "metadata is not an object"},
      {R"({"weight_map":{},"extra":1})", "\"extra\", which is not known"},
  };
  for (const auto& [text, message] : cases) {
    folder.write("model.safetensors.index.json", text);
    EXPECT_THAT(error_of<Error>([&] { Shards(folder / "."); }), HasSubstr(message)) << text;
  }
}

TEST(CheckpointIndex, AndItsShardsHaveTheSameNames) {
  const Folder folder;
  for (const std::string file : {"model-1.safetensors", "model-2.safetensors"}) {
    SafetensorsWriter writer(folder / file, {{"in " + file, Dtype::U8, {0}}});
    writer.append({});
    writer.finish();
  }
  const auto error = [&](const std::string& map) {
    folder.write("model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
    return error_of<Error>([&] {
      Shards shards(folder / ".");
      for (const auto& [name, file] : shards.files()) shards.at(name);
    });
  };
  const std::string one = R"("in model-1.safetensors":"model-1.safetensors")";
  EXPECT_EQ(error(one), "");
  EXPECT_THAT(error(one + R"(,"b":"model-1.safetensors")"), HasSubstr("lacks \"b\""));
  EXPECT_THAT(error(R"("b":"model-1.safetensors")"), HasSubstr("does not name"));
  EXPECT_THAT(error(R"("in model-1.safetensors":"model-2.safetensors")"),
              HasSubstr("model-2.safetensors holds \"in model-2.safetensors\""));
  EXPECT_THAT(error(one + R"(,"c":"model-3.safetensors")"), HasSubstr("No such file"));
}

}  // namespace
}  // namespace headrace
