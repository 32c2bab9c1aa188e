// Every schedule at every size: sound before and after lowering, and where a size does not fit, a
// message that says which do, truly.
#include <cctype>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headrace/base/error.h"
#include "headrace/schedule/check/validate.h"
#include "headrace/schedule/generators/generators.h"
#include "headrace/schedule/lower.h"

namespace headrace {
namespace {

bool has_v(const std::string& name) {
  return name == "interleaved" || name == "bfs" || name == "gis";
}

void expect_sound(const std::string& name, const GeneratorOptions& options) {
  const Generator& generator = find_generator(generators(), name);
  const Made made = generator.try_make(options);
  EXPECT_EQ(made.schedule.has_value(), !generator.fits(options)) << made.refusal;
  if (!made.schedule) {
    EXPECT_THAT(made.refusal, testing::HasSubstr("nearest that work"));
    EXPECT_THAT([&] { generate(name, options); },
                testing::ThrowsMessage<UsageError>(testing::StrEq(made.refusal)));
    return;
  }
  const Schedule& schedule = *made.schedule;
  EXPECT_EQ(generator.place(options), schedule.placement);
  EXPECT_EQ(generator.stages_on_rank(options) * options.ranks, schedule.placement.stages());
  EXPECT_THAT(validate(schedule).violations, testing::IsEmpty());
  EXPECT_THAT(validate(lower(schedule)).violations, testing::IsEmpty());
}

class Sizes : public testing::TestWithParam<std::string> {};

TEST_P(Sizes, AreSoundOrRefused) {
  const std::string& name = GetParam();
  for (int ranks = 1; ranks <= 8; ++ranks)
    // The search over blocks takes its time: every third size is enough there.
    for (int microbatches = 1; microbatches <= 24; microbatches += name == "v-adaptive" ? 3 : 1)
      for (const int v : has_v(name) ? std::vector{1, 2, 3} : std::vector{0}) {
        SCOPED_TRACE(name + " P " + std::to_string(ranks) + " M " + std::to_string(microbatches) +
                     " v " + std::to_string(v));
        GeneratorOptions options{
            .ranks = ranks, .microbatches = microbatches, .stages_per_rank = v};
        expect_sound(name, options);
        // Unequal costs and a transfer time, for the schedules that look at them.
        options.costs.forward = {3};
        options.costs.backward_input = {4};
        options.costs.backward_weight = {2};
        options.costs.latency = 0.5;
        options.memory_limit = {static_cast<double>(name == "zb-auto" ? ranks : 2 * ranks)};
        expect_sound(name, options);
      }
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const Generator& generator : generators()) all.push_back(generator.name);
  return all;
}

std::string test_name(const testing::TestParamInfo<std::string>& name) {
  std::string letters = name.param;
  std::erase_if(letters, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
  return letters;
}

INSTANTIATE_TEST_SUITE_P(All, Sizes, testing::ValuesIn(names()), test_name);

TEST(Grid, OfGroups) {
  for (int ranks = 1; ranks <= 8; ++ranks)
    for (int group = (ranks + 1) / 2; group <= ranks; ++group)
      for (const int microbatches : {1, 3, 8, 13, 24})
        for (const int v : {1, 2, 3, 4}) {
          SCOPED_TRACE("gis P " + std::to_string(ranks) + " g " + std::to_string(group));
          expect_sound("gis", {.ranks = ranks,
                               .microbatches = microbatches,
                               .stages_per_rank = v,
                               .group_size = group});
        }
  for (const int ranks : {2, 4, 6, 8, 12})
    for (int pipelines = 2; pipelines <= ranks; pipelines += 2)
      for (const int microbatches : {1, 3, 8, 13, 24})
        expect_sound("chimera",
                     {.ranks = ranks, .microbatches = microbatches, .group_size = pipelines});
  for (const int splits : {1, 2, 3, 4})
    for (int ranks = 1; ranks <= 6; ++ranks)
      for (const int microbatches : {1, 2, 5})
        expect_sound("seq1f1b",
                     {.ranks = ranks, .microbatches = microbatches, .sequence_splits = splits});
}

// Before anything is allocated; the products of these sizes are beyond int, and beyond 64 bits.
TEST_P(Sizes, ThatCannotFitAreRefusedWithTheArithmetic) {
  using testing::AllOf;
  using testing::HasSubstr;
  using testing::ThrowsMessage;
  const int many = 2'000'000'000;
  EXPECT_THAT([&] { generate(GetParam(), {.ranks = 1'000'000, .microbatches = 2'000'000}); },
              ThrowsMessage<UsageError>(AllOf(
                  HasSubstr(GetParam() + " with ranks 1000000, microbatches 2000000 has at least "
                                         "4,000,000,000,000 actions of 16 bytes on 1,000,000 stages"
                                         ": 58.2 TiB, and "),
                  HasSubstr(" left; choose smaller sizes"))));
  for (const GeneratorOptions& sizes :
       {GeneratorOptions{.ranks = many, .microbatches = 2},
        GeneratorOptions{.ranks = 2, .microbatches = many},
        GeneratorOptions{
            .ranks = many, .microbatches = many, .stages_per_rank = many, .sequence_splits = many}})
    EXPECT_THROW(generate(GetParam(), sizes), UsageError);
}

// Some schedules refuse few microbatches; where their stages lie does not depend on these.
TEST_P(Sizes, DoNotMoveThePlacement) {
  const Generator& generator = find_generator(generators(), GetParam());
  const Placement placement = generator.place({.ranks = 4});
  EXPECT_EQ(placement, generator.make({.ranks = 4, .microbatches = 8}).placement);
  EXPECT_THROW(generator.place({.ranks = 0}), UsageError);
  EXPECT_THROW(generator.place({.ranks = 2'000'000'000}), UsageError);
  EXPECT_THROW(generator.place({.ranks = 4, .stages_per_rank = 2'000'000'000}), UsageError);
}

TEST(Grid, RefusalsNameWhatWorks) {
  using testing::HasSubstr;
  using testing::ThrowsMessage;
  EXPECT_THAT([] { generate("interleaved", {.ranks = 4, .microbatches = 9}); },
              ThrowsMessage<UsageError>(HasSubstr("the nearest that work are 8 and 10")));
  EXPECT_THAT([] { generate("dualpipe", {.ranks = 4, .microbatches = 9}); },
              ThrowsMessage<UsageError>(HasSubstr("the nearest that works is 10")));
  EXPECT_THAT([] { generate("dualpipe-v", {.ranks = 4, .microbatches = 3}); },
              ThrowsMessage<UsageError>(HasSubstr("the nearest that works is 8")));
  EXPECT_THAT([] { generate("gis", {.ranks = 6, .microbatches = 6, .group_size = 2}); },
              ThrowsMessage<UsageError>(HasSubstr("the nearest that works is 3")));
  EXPECT_THAT([] { generate("pipedream-2bw", {.ranks = 4, .microbatches = 8, .group_size = 2}); },
              ThrowsMessage<UsageError>(HasSubstr("the nearest that works is 4")));
  EXPECT_THAT([] { generate("zb-h1", {.ranks = 4, .microbatches = 8, .stages_per_rank = 2}); },
              ThrowsMessage<UsageError>(HasSubstr("set it to 1")));
  EXPECT_THAT([] { generate("zb-auto", {.ranks = 2, .microbatches = 4, .memory_limit = {0.5}}); },
              ThrowsMessage<UsageError>(HasSubstr("memory limit of rank 0")));
  const GeneratorOptions tight{.ranks = 2, .microbatches = 4, .memory_limit = {0.5}};
  for (const char* name : {"zb-auto", "zb-v", "v-adaptive"}) {
    const Generator& generator = find_generator(generators(), name);
    EXPECT_FALSE(generator.fits(tight));
    EXPECT_THAT(generator.try_make(tight).refusal, testing::StartsWith(name));
  }
  EXPECT_THROW(generate("zb-auto", {.ranks = 3, .microbatches = 4, .memory_limit = {4, 4}}),
               UsageError);
  GeneratorOptions unequal{.ranks = 3, .microbatches = 4};
  unequal.costs.forward = {1, 2};
  EXPECT_THAT([&] { generate("zb-auto", unequal); },
              ThrowsMessage<UsageError>(HasSubstr("there are 3 stages")));
}

}  // namespace
}  // namespace headrace
