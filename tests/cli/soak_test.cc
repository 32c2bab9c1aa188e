// 200 steps of every schedule over three processes: nothing drifts, leaks or hangs.
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "tests/cli/tiny_run.h"
#include "tests/schedule_lists.h"

namespace headrace {
namespace {

class Soak : public TinyRun, public testing::WithParamInterface<std::string> {
 protected:
  std::string settings() const { return "--microbatches 6 --steps 200 "; }
};

std::string name_of(const testing::TestParamInfo<std::string>& of) {
  std::string name = of.param;
  for (char& c : name)
    if (c == '-') c = '_';
  return name;
}

TEST_P(Soak, EveryStepIsThatOfOneProcess) {
  EXPECT_EQ(train(settings() + "--ranks 1 --run-dir one").code, 0);
  const Outcome run = train(settings() + "--ranks 3 --schedule " + GetParam() + " --run-dir three");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(metrics("three").size(), 200U);
  EXPECT_EQ(metrics("three"), metrics("one"));
}

INSTANTIATE_TEST_SUITE_P(Synchronous, Soak, testing::ValuesIn(schedules_of_one_copy()), name_of);

class SoakAsynchronous : public Soak {};

TEST_P(SoakAsynchronous, Learns) {
  const Outcome run =
      train(settings() + "--ranks 3 --set optimizer.clip=0 --set model.tied=false --schedule " +
            GetParam() + " --run-dir three");
  EXPECT_EQ(run.code, 0) << run.err;
  const std::vector<std::string> records = metrics("three");
  ASSERT_EQ(records.size(), 200U);
  const auto loss = [](const std::string& record) {
    return std::stod(record.substr(record.find("loss\":") + 6));
  };
  EXPECT_LT(loss(records.back()), 0.3 * loss(records.front()));
}

INSTANTIATE_TEST_SUITE_P(Asynchronous,
                         SoakAsynchronous,
                         testing::ValuesIn(asynchronous_schedules()),
                         name_of);

}  // namespace
}  // namespace headrace
